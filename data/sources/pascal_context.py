"""Pascal Context: 59 classes and the background in 4998 + 5105 images of VOC 2010.

http://host.robots.ox.ac.uk/pascal/VOC/voc2010/VOCtrainval_03-May-2010.tar, and
https://codalabuser.blob.core.windows.net/public/trainval_merged.json, of which
`tools/dataset_converters/pascal_context.py` of mmsegmentation makes the labels and the
lists. Labels are 0, the background, to 59.
"""

import os

from data.classes import parse_classes
from data.sources.base import FilePairs, read_lines

# Names and colours (two of them equal) as mmsegmentation's.
_BACKGROUND = "0: background 120 120 120\n"
_CLASSES = """
1: aeroplane 180 120 120
2: bag 6 230 230
3: bed 80 50 50
4: bedclothes 4 200 3
5: bench 120 120 80
6: bicycle 140 140 140
7: bird 204 5 255
8: boat 230 230 230
9: book 4 250 7
10: bottle 224 5 255
11: building 235 255 7
12: bus 150 5 61
13: cabinet 120 120 70
14: car 8 255 51
15: cat 255 6 82
16: ceiling 143 255 140
17: chair 204 255 4
18: cloth 255 51 7
19: computer 204 70 3
20: cow 0 102 200
21: cup 61 230 250
22: curtain 255 6 51
23: dog 11 102 255
24: door 255 7 71
25: fence 255 9 224
26: floor 9 7 230
27: flower 220 220 220
28: food 255 9 92
29: grass 112 9 255
30: ground 8 255 214
31: horse 7 255 224
32: keyboard 255 184 6
33: light 10 255 71
34: motorbike 255 41 10
35: mountain 7 255 255
36: mouse 224 255 8
37: person 102 8 255
38: plate 255 61 6
39: platform 255 194 7
40: pottedplant 255 122 8
41: road 0 255 20
42: rock 255 8 41
43: sheep 255 5 153
44: shelves 6 51 255
45: sidewalk 235 12 255
46: sign 160 150 20
47: sky 0 163 255
48: snow 140 140 140
49: sofa 250 10 15
50: table 20 255 0
51: track 31 255 0
52: train 255 31 0
53: tree 255 224 0
54: truck 153 255 0
55: tvmonitor 0 0 255
56: wall 255 71 0
57: water 0 235 255
58: window 0 173 255
59: wood 31 0 255
"""


class PascalContext60(FilePairs):
    """The images of a list, in its order, with the background as the first class.

    JPEGImages/*.jpg with SegmentationClassContext/*.png below `root`, the folder
    VOCdevkit/VOC2010, as ImageSets/SegmentationContext/{split}.txt lists them, "train"
    or "val".

    Raises FileNotFoundError if a list, or any image or label that it names, is missing.
    """

    classes = parse_classes(_BACKGROUND + _CLASSES, "Pascal Context")

    def __init__(self, root: str, split: str) -> None:
        layout = (
            f"Pascal Context is expected under config.data.root = {root!r}, the folder"
            " VOCdevkit/VOC2010, as JPEGImages/*.jpg, SegmentationClassContext/*.png"
            " and ImageSets/SegmentationContext/{train,val}.txt."
        )
        list_file = os.path.join(
            root, "ImageSets", "SegmentationContext", f"{split}.txt"
        )
        names = [line.strip() for line in read_lines(list_file, layout)]
        pairs = [
            (
                os.path.join(root, "JPEGImages", f"{name}.jpg"),
                os.path.join(root, "SegmentationClassContext", f"{name}.png"),
            )
            for name in names
            if name
        ]
        super().__init__(pairs, layout)


class PascalContext59(PascalContext60):
    """The same, where the background does not count."""

    classes = parse_classes("0: ignore\n" + _CLASSES, "Pascal Context")
