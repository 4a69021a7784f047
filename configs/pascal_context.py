"""SegNeXt on Pascal Context, 60 classes: 480², 80k steps of 16 images.

    python train.py --config configs/pascal_context.py:t       or s, b, l

Reads datasets/VOCdevkit/VOC2010; its layout is in data/sources/pascal_context.py. With
the 59 classes that leave the background out:
`--config.data.source=pascal_context_59`.

No peer publishes SegNeXt's recipe for it, so there is no score to reproduce. Data,
crop, batch and steps are mmsegmentation's for this set (pascal_context.py and its 80k
schedule), all else is the authors' for others.
"""

from ml_collections import ConfigDict

from configs import common, protocols


def get_config(variant: str = "t") -> ConfigDict:
    config = common.official(variant)
    config.data.source = "pascal_context_60"
    config.data.root = "datasets/VOCdevkit/VOC2010"
    config.data.resize_to = (520, 520)
    config.data.crop_size = (480, 480)
    config.train.batch_size = 16
    config.train.num_train_steps = 80_000
    protocols.apply(config, "official")
    return config
