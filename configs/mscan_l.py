"""SegNeXt-L on Cityscapes.

    python train.py --config configs/mscan_l.py            PaddleSeg's recipe
    python train.py --config configs/mscan_l.py:official   the authors' recipe

Published mIoU on val, from ImageNet weights: 83.32 % (PaddleSeg, whole images) and
83.2 % (authors, sliding window).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(recipe: str = "paddle") -> ConfigDict:
    return common.cityscapes("L", recipe)
