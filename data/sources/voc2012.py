"""Pascal VOC 2012 with the labels of SBD, "aug": 1464 + 9118 images, 1449 to validate.

http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar, and for aug
benchmark.tgz of https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/
semantic_contours, whose .mat files `tools/dataset_converters/voc_aug.py` of
mmsegmentation (or `voc_augment.py` of PaddleSeg) writes as PNGs with their lists.
Labels are 0 to 20, and 255 at the edges of objects, which does not count.
"""

import os

import tensorflow as tf

from data.classes import parse_classes
from data.sources.base import FilePairs, read_lines

# The classes and the colour map of the VOC devkit.
VOC_CLASSES = parse_classes(
    """
0: background 0 0 0
1: aeroplane 128 0 0
2: bicycle 0 128 0
3: bird 128 128 0
4: boat 0 0 128
5: bottle 128 0 128
6: bus 0 128 128
7: car 128 128 128
8: cat 64 0 0
9: chair 192 0 0
10: cow 64 128 0
11: diningtable 192 128 0
12: dog 64 0 128
13: horse 192 0 128
14: motorbike 64 128 128
15: person 192 128 128
16: pottedplant 0 64 0
17: sheep 128 64 0
18: sofa 0 192 0
19: train 128 192 0
20: tvmonitor 0 64 128
""",
    "Pascal VOC",
)


class VOC2012(FilePairs):
    """The images of a list, in its order.

    JPEGImages/*.jpg with SegmentationClass/*.png below `root`, the folder
    VOCdevkit/VOC2012, as ImageSets/Segmentation/{split}.txt lists them: "train", "val"
    or "trainval". "aug" is labelled in SegmentationClassAug; "trainaug" is train.txt
    from SegmentationClass, then aug.txt from SegmentationClassAug (or, without aug.txt,
    what trainaug.txt has more than train.txt), as mmsegmentation joins them.

    Raises FileNotFoundError if a list, or any image or label that it names, is missing.
    """

    classes = VOC_CLASSES

    def __init__(self, root: str, split: str) -> None:
        layout = (
            f"Pascal VOC is expected under config.data.root = {root!r}, the folder"
            " VOCdevkit/VOC2012, as JPEGImages/*.jpg, SegmentationClass/*.png and"
            " ImageSets/Segmentation/{train,val,trainval}.txt; for the splits aug and"
            " trainaug also SegmentationClassAug/*.png and aug.txt."
        )
        lists = os.path.join(root, "ImageSets", "Segmentation")

        def names(split: str) -> list[str]:
            return read_names(os.path.join(lists, f"{split}.txt"), layout)

        if split == "trainaug":
            train = names("train")
            is_joined = not tf.io.gfile.exists(os.path.join(lists, "aug.txt"))
            known = set(train)
            aug = [
                x for x in names("trainaug" if is_joined else "aug") if x not in known
            ]
            pairs = _pairs(root, train) + _pairs(root, aug, "SegmentationClassAug")
        elif split == "aug":
            pairs = _pairs(root, names("aug"), "SegmentationClassAug")
        else:
            pairs = _pairs(root, names(split))
        super().__init__(pairs, layout)


def read_names(path: str, layout: str) -> list[str]:
    """Reads the first word of each line: lists of one class have a second."""
    return [line.split()[0] for line in read_lines(path, layout) if line.strip()]


def _pairs(
    root: str, names: list[str], labels: str = "SegmentationClass"
) -> list[tuple[str, str]]:
    return [
        (
            os.path.join(root, "JPEGImages", f"{name}.jpg"),
            os.path.join(root, labels, f"{name}.png"),
        )
        for name in names
    ]
