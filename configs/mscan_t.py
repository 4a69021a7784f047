"""SegNeXt-T on Cityscapes.

    python train.py --config configs/mscan_t.py            PaddleSeg's recipe
    python train.py --config configs/mscan_t.py:official   the authors' recipe

Published mIoU on val, from ImageNet weights: 81.04 % (PaddleSeg, whole images) and
79.8 % (authors, sliding window).
"""

from ml_collections import ConfigDict

from configs import common


def get_config(recipe: str = "paddle") -> ConfigDict:
    return common.cityscapes("T", recipe)
