"""SegNeXt-T on CamVid from scratch: 11 classes, 367 + 101 photographs of 360×480.

    python train.py --config configs/camvid.py --config.data.root=PATH

The folder has images/{train,val}/*.jpg and labels/{train,val}/*.png. Seeds 0 and 1
reach 41.2 % and 41.0 % mIoU; with the usual drop path and dropout, 39.6 % and 39.4 %,
and mmsegmentation's model in PyTorch, on the very same crops, 39.6 % and 39.2 %.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.base()
    config.model.dtype = "float32"
    config.model.drop_path_rate = 0.0  # 11 epochs are too few to overfit
    config.model.dropout_rate = 0.0
    config.data.source = "folder"
    config.data.root = "datasets/camvid"
    config.data.classes = "camvid"
    config.data.crop_size = (352, 480)
    config.augment.distortion = "none"
    config.optimizer.head_multiplier = 1.0
    config.optimizer.decay = "all"
    config.schedule.peak = 6e-4
    config.schedule.warmup_steps = 100
    config.train.batch_size = 4
    config.train.num_train_steps = 1000
    config.train.log_every_steps = 20
    config.train.eval_every_steps = 500
    config.train.checkpoint_every_steps = 100
    config.eval.batch_size = 4
    return config
