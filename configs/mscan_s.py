"""SegNeXt-S on Cityscapes.

    python train.py --config configs/mscan_s.py            PaddleSeg's recipe
    python train.py --config configs/mscan_s.py:official   the authors' recipe

Published mIoU on val, from ImageNet weights: 81.33 % (PaddleSeg, whole images) and
81.3 % (authors, sliding window).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(recipe: str = "paddle") -> ConfigDict:
    return common.cityscapes("S", recipe)
