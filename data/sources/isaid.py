"""iSAID: 15 classes of objects and the background in aerial images, cut to patches.

https://captain-whu.github.io/iSAID/dataset.html (images: DOTA-v1.0), 1411 + 458 large
images. They are trained on as patches, of 896² for the published recipe, which
`tools/dataset_converters/isaid.py` of mmsegmentation cuts, or `split.py` of
iSAID_Devkit. The former translates labels to ids and pads them with 255, the latter
keeps their colours; both are read.
"""

import os

from data.classes import parse_classes
from data.sources.base import FilePairs, pair_files

_LABEL_SUFFIX = "_instance_color_RGB.png"

# Names, colours and order as mmsegmentation's; the colours are those of iSAID's labels.
ISAID_CLASSES = parse_classes(
    """
0: background 0 0 0
1: ship 0 0 63
2: store_tank 0 63 63
3: baseball_diamond 0 63 0
4: tennis_court 0 63 127
5: basketball_court 0 63 191
6: Ground_Track_Field 0 63 255
7: Bridge 0 127 63
8: Large_Vehicle 0 127 127
9: Small_Vehicle 0 0 127
10: Helicopter 0 0 191
11: Swimming_pool 0 0 255
12: Roundabout 0 191 127
13: Soccer_ball_field 0 127 191
14: plane 0 127 255
15: Harbor 0 100 155
""",
    "iSAID",
    colour_labels=True,
)


class ISAID(FilePairs):
    """Patches of one split with their labels, sorted by name.

    img_dir/{split}/*.png with ann_dir/{split}/<same name>_instance_color_RGB.png below
    `root`, of `split` "train" or "val".

    Raises FileNotFoundError if the folder, its images or any label are missing.
    """

    classes = ISAID_CLASSES

    def __init__(self, root: str, split: str) -> None:
        layout = (
            f"iSAID is expected under config.data.root = {root!r} as patches"
            f" img_dir/{split}/*.png and ann_dir/{split}/*{_LABEL_SUFFIX}."
        )
        pairs = pair_files(
            os.path.join(root, "img_dir", split),
            os.path.join(root, "ann_dir", split),
            layout,
            image_suffix=".png",
            label_suffix=_LABEL_SUFFIX,
        )
        super().__init__(pairs, layout)
