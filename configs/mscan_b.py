"""SegNeXt-B on Cityscapes.

    python train.py --config configs/mscan_b.py            PaddleSeg's recipe
    python train.py --config configs/mscan_b.py:official   the authors' recipe

Published mIoU on val, from ImageNet weights: 82.74 % (PaddleSeg, whole images) and
82.6 % (authors, sliding window).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(recipe: str = "paddle") -> ConfigDict:
    return common.cityscapes("B", recipe)
