"""SegNeXt on LoveDA, 7 classes: 512², 80k steps of 16 images.

    python train.py --config configs/loveda.py:t       or s, b, l

Reads datasets/loveDA; its layout is in data/sources/loveda.py.

No peer publishes SegNeXt's recipe for it, so there is no score to reproduce. Data,
crop, batch and steps are mmsegmentation's for this set (loveda.py and its 80k
schedule), all else is the authors' for others. As there, images of 1024² are halved
before they are scaled and cropped, but not to be evaluated.
"""

from ml_collections import ConfigDict

from configs import common, protocols


def get_config(variant: str = "t") -> ConfigDict:
    config = common.official(variant)
    config.data.source = "loveda"
    config.data.root = "datasets/loveDA"
    config.data.train_split = "Train"
    config.data.val_split = "Val"
    config.data.resize_to = (512, 2048)
    config.data.crop_size = (512, 512)
    config.train.batch_size = 16
    config.train.num_train_steps = 80_000
    protocols.apply(config, "official")
    return config
