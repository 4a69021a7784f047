"""Cityscapes as it is distributed, and as TensorFlow Datasets prepares it.

https://www.cityscapes-dataset.com (registration): leftImg8bit_trainvaltest.zip and
gtFine_trainvaltest.zip, 2975 + 500 labelled frames of 1024×2048.
"""

import os

import tensorflow as tf

from data.classes import IGNORE_LABEL, ClassTable
from data.sources.base import FilePairs, list_folder, pair_files
from data.sources.tfds import PreparedPairs, rename_split

_IMAGE_SUFFIX = "_leftImg8bit.png"
_LABEL_SUFFIX = "_gtFine_labelIds.png"

# cityscapesScripts, cityscapesscripts/helpers/labels.py: name, id, train id, colour.
_LABELS = (
    ("unlabeled", 0, 255, (0, 0, 0)),
    ("ego vehicle", 1, 255, (0, 0, 0)),
    ("rectification border", 2, 255, (0, 0, 0)),
    ("out of roi", 3, 255, (0, 0, 0)),
    ("static", 4, 255, (0, 0, 0)),
    ("dynamic", 5, 255, (111, 74, 0)),
    ("ground", 6, 255, (81, 0, 81)),
    ("road", 7, 0, (128, 64, 128)),
    ("sidewalk", 8, 1, (244, 35, 232)),
    ("parking", 9, 255, (250, 170, 160)),
    ("rail track", 10, 255, (230, 150, 140)),
    ("building", 11, 2, (70, 70, 70)),
    ("wall", 12, 3, (102, 102, 156)),
    ("fence", 13, 4, (190, 153, 153)),
    ("guard rail", 14, 255, (180, 165, 180)),
    ("bridge", 15, 255, (150, 100, 100)),
    ("tunnel", 16, 255, (150, 120, 90)),
    ("pole", 17, 5, (153, 153, 153)),
    ("polegroup", 18, 255, (153, 153, 153)),
    ("traffic light", 19, 6, (250, 170, 30)),
    ("traffic sign", 20, 7, (220, 220, 0)),
    ("vegetation", 21, 8, (107, 142, 35)),
    ("terrain", 22, 9, (152, 251, 152)),
    ("sky", 23, 10, (70, 130, 180)),
    ("person", 24, 11, (220, 20, 60)),
    ("rider", 25, 12, (255, 0, 0)),
    ("car", 26, 13, (0, 0, 142)),
    ("truck", 27, 14, (0, 0, 70)),
    ("bus", 28, 15, (0, 60, 100)),
    ("caravan", 29, 255, (0, 0, 90)),
    ("trailer", 30, 255, (0, 0, 110)),
    ("train", 31, 16, (0, 80, 100)),
    ("motorcycle", 32, 17, (0, 0, 230)),
    ("bicycle", 33, 18, (119, 11, 32)),
    ("license plate", -1, 255, (0, 0, 142)),
)
_CLASSES = [row for row in _LABELS if row[2] != IGNORE_LABEL]

CITYSCAPES = ClassTable(
    names=tuple(name for name, _, _, _ in _CLASSES),
    palette=tuple(colour for _, _, _, colour in _CLASSES),
    raw_to_train={raw_id: train_id for _, raw_id, train_id, _ in _LABELS},
)


class Cityscapes(FilePairs):
    """Frames and fine labels of one split, sorted by city and frame.

    leftImg8bit/{split}/<city>/*_leftImg8bit.png with
    gtFine/{split}/<city>/*_gtFine_labelIds.png, of `split` "train" or "val".

    Raises FileNotFoundError if the folder, its images or any label are missing.
    """

    classes = CITYSCAPES

    def __init__(self, root: str, split: str) -> None:
        layout = (
            f"Cityscapes is expected under config.data.root = {root!r} as"
            f" leftImg8bit/{split}/<city>/*{_IMAGE_SUFFIX} and"
            f" gtFine/{split}/<city>/*{_LABEL_SUFFIX}."
        )
        images = os.path.join(root, "leftImg8bit", split)
        labels = os.path.join(root, "gtFine", split)
        pairs = []
        for city in list_folder(images, layout):
            if tf.io.gfile.isdir(os.path.join(images, city)):
                pairs += pair_files(
                    os.path.join(images, city),
                    os.path.join(labels, city),
                    layout,
                    image_suffix=_IMAGE_SUFFIX,
                    label_suffix=_LABEL_SUFFIX,
                )
        super().__init__(pairs, layout)


class CityscapesTfds(PreparedPairs):
    """One split of `cityscapes/semantic_segmentation` below `root`, a data_dir of TFDS.

    `split` is "train", "validation" (or "val"), or a part such as "train[:10%]". TFDS
    stores the files of the official zips as they are, so labels hold the raw ids.

    Raises as `Prepared` does.
    """

    classes = CITYSCAPES
    dataset = "cityscapes/semantic_segmentation"
    image_feature = "image_left"
    label_feature = "segmentation_label"
    name_feature = "image_id"
    downloads = (
        "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip, from"
        " https://www.cityscapes-dataset.com,"
    )

    def __init__(self, root: str, split: str) -> None:
        super().__init__(root, rename_split(split, {"val": "validation"}))
