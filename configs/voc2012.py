"""SegNeXt on Pascal VOC 2012 with SBD's labels, 21 classes: 512², 40k steps of 16.

    python train.py --config configs/voc2012.py:t       or s, b, l

Reads datasets/VOCdevkit/VOC2012; its layout is in data/sources/voc2012.py. Without
SBD: `--config.data.train_split=train`.

No peer publishes SegNeXt's recipe for it, so there is no score to reproduce. Data,
crop, batch and steps are mmsegmentation's for this set (pascal_voc12_aug.py and its 40k
schedule), all else is the authors' for others.
"""

from ml_collections import ConfigDict

from configs import common, protocols


def get_config(variant: str = "t") -> ConfigDict:
    config = common.official(variant)
    config.data.source = "voc2012"
    config.data.root = "datasets/VOCdevkit/VOC2012"
    config.data.train_split = "trainaug"
    config.data.resize_to = (512, 2048)
    config.data.crop_size = (512, 512)
    config.train.batch_size = 16
    config.train.num_train_steps = 40_000
    config.train.eval_every_steps = 4000
    protocols.apply(config, "official")
    return config
