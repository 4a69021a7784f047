"""SegNeXt on a folder of your own images and labels: 512², 20k steps of 8 images.

    python train.py --config configs/folder.py:t --config.data.root=PATH    or s, b, l

PATH has images/{train,val}/, labels/{train,val}/ and classes.txt; docs/datasets.md
takes you through it. The recipe is the authors', which is for weights of ImageNet
(`--config.init_from.path=mscan_t.pth --config.init_from.part=backbone`). Without them
start from the learning rate of configs/camvid.py: `--config.schedule.peak=6e-4`
`--config.optimizer.head_multiplier=1`.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(variant: str = "t") -> ConfigDict:
    config = common.official(variant)
    config.data.source = "folder"
    config.data.root = "datasets/folder"
    config.data.classes = "classes.txt"  # in root
    config.data.crop_size = (512, 512)
    config.loss.normalizer = "valid"  # void may be most of an image
    config.train.num_train_steps = 20_000
    config.train.eval_every_steps = 1000
    return config
