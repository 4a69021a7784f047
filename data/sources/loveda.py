"""LoveDA: 7 classes of land cover in aerial images of 1024², 2522 + 1669.

https://zenodo.org/records/5706578: Train.zip and Val.zip. Labels are 0 where there is
no data, which does not count, and 1 to 7.
"""

import os

from data.classes import parse_classes
from data.sources.base import FilePairs, pair_files

# The classes of Junjue-Wang/LoveDA, render.py; the background is one of them.
LOVEDA_CLASSES = parse_classes(
    """
0: ignore
1: background 255 255 255
2: building 255 0 0
3: road 255 255 0
4: water 0 0 255
5: barren 159 129 183
6: forest 0 255 0
7: agricultural 255 195 128
""",
    "LoveDA",
)


class LoveDA(FilePairs):
    """Urban, then rural images of one split, each sorted by name.

    {split}/{Urban,Rural}/images_png/*.png with {split}/{Urban,Rural}/masks_png/*.png
    below `root`, of `split` "Train" or "Val".

    Raises FileNotFoundError if a folder, its images or any label are missing.
    """

    classes = LOVEDA_CLASSES

    def __init__(self, root: str, split: str) -> None:
        layout = (
            f"LoveDA is expected under config.data.root = {root!r} as"
            f" {split}/{{Urban,Rural}}/images_png/*.png and"
            f" {split}/{{Urban,Rural}}/masks_png/*.png; splits are Train and Val."
        )
        pairs = []
        for area in ("Urban", "Rural"):
            pairs += pair_files(
                os.path.join(root, split, area, "images_png"),
                os.path.join(root, split, area, "masks_png"),
                layout,
                image_suffix=".png",
                label_suffix=".png",
            )
        super().__init__(pairs, layout)
