"""SegNeXt on COCO-Stuff 164k, 171 classes: 512², 80k steps of 16 images.

    python train.py --config configs/coco_stuff.py:t       or s, b, l

Reads datasets/coco_stuff164k; its layout is in data/sources/coco_stuff.py. This is the
authors' recipe, from ImageNet weights (`--config.init_from.path`, with part=backbone);
their repository gives no score for it.
"""

from ml_collections import ConfigDict

from configs import common, protocols


def get_config(variant: str = "t") -> ConfigDict:
    config = common.official(variant)
    config.data.source = "coco_stuff"
    config.data.root = "datasets/coco_stuff164k"
    config.data.train_split = "train2017"
    config.data.val_split = "val2017"
    config.data.resize_to = (512, 2048)
    config.data.crop_size = (512, 512)
    config.train.batch_size = 16
    config.train.num_train_steps = 80_000
    protocols.apply(config, "official")
    return config
