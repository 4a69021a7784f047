"""SegNeXt-T on generated street scenes: the whole program in about five minutes.

    python train.py --config configs/quickstart.py

Makes the scenes on the first run (Cityscapes's layout and its 19 classes), trains from
scratch, evaluates, saves. On two CPU cores; nothing is downloaded.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.base()
    config.model.dtype = "float32"
    config.model.drop_path_rate = 0.0  # too few steps to overfit
    config.model.dropout_rate = 0.0
    config.data.source = "street_scenes"
    config.data.root = "datasets/street_scenes"
    config.data.crop_size = (128, 256)
    config.data.scale_range = (1.0, 1.0)
    config.data.max_class_ratio = 1.0
    config.augment.distortion = "none"
    config.optimizer.head_multiplier = 1.0
    config.optimizer.decay = "all"
    config.schedule.peak = 2e-3
    config.schedule.warmup_steps = 50
    config.train.batch_size = 2
    config.train.num_train_steps = 600
    config.train.log_every_steps = 25
    config.train.eval_every_steps = 300
    config.train.checkpoint_every_steps = 100
    config.eval.batch_size = 8
    return config
