"""SegNeXt on iSAID, 16 classes with the background: 896², 160k steps of 16 patches.

    python train.py --config configs/isaid.py:t       or s, b, l

Reads datasets/iSAID; its layout, and how patches are cut, is in data/sources/isaid.py.
This is the recipe of JSeg (project/segnext/*isaid*), the authors' code for Jittor.
Published mIoU on the patches of val, from ImageNet weights (`--config.init_from.path`,
with part=backbone): T 68.3, S 68.8, B 69.9, L 70.3.
"""

from ml_collections import ConfigDict

from configs import common, protocols


def get_config(variant: str = "t") -> ConfigDict:
    config = common.official(variant)
    config.data.source = "isaid"
    config.data.root = "datasets/iSAID"
    config.data.resize_to = (896, 896)
    config.data.crop_size = (896, 896)
    config.train.batch_size = 16
    protocols.apply(config, "official")
    return config
