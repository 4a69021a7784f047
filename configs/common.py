"""Every config key with its usual value, and the two published Cityscapes recipes.

Durations are in steps; sizes are (height, width).
"""

from ml_collections import ConfigDict


def base() -> ConfigDict:
    """What all recipes share; they change values but add no key."""
    config = ConfigDict()
    config.seed = 0

    config.model = ConfigDict()
    config.model.variant = "T"  # T, S, B, L
    config.model.decoder = "official"  # or "paddle": 256 channels, rank 16, fan-in init
    config.model.dtype = "bfloat16"  # of activations; weights are float32
    config.model.drop_path_rate = 0.1
    config.model.dropout_rate = 0.1
    config.model.depthwise = "auto"  # auto, xla, shift
    config.model.nmf_train_steps = 6
    config.model.nmf_eval_steps = 7
    config.model.nmf_gradient = "unrolled"  # or "one_step"

    config.data = ConfigDict()
    config.data.source = "cityscapes"  # cityscapes, folder, street_scenes
    config.data.root = "datasets/cityscapes"
    config.data.train_split = "train"
    config.data.val_split = "val"
    config.data.classes = "cityscapes"  # a name in data/classes.py, or a class file
    config.data.crop_size = (1024, 1024)
    config.data.scale_range = (0.5, 2.0)
    config.data.scale_step = 0.0  # 0: any scale in the range
    config.data.max_class_ratio = 0.75  # of one class in a crop; 1: any crop
    config.data.pad = "after_distortion"  # or "before_crop"
    config.data.on_unreadable = "stop"  # or "skip"

    config.augment = ConfigDict()
    config.augment.flip_probability = 0.5
    config.augment.distortion = "photometric"  # photometric, paddle, none

    config.loss = ConfigDict()
    config.loss.normalizer = "valid"  # or "all" pixels

    config.optimizer = ConfigDict()
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 0.01
    config.optimizer.decay_norm = False
    config.optimizer.head_multiplier = 10.0
    config.optimizer.clip_norm = 0.0  # 0: no clipping

    config.schedule = ConfigDict()
    config.schedule.form = "paddle"  # or "official"
    config.schedule.peak = 6e-5
    config.schedule.power = 1.0
    config.schedule.warmup_steps = 1500
    config.schedule.warmup_start = 1e-6  # learning rate (paddle) or ratio (official)

    config.train = ConfigDict()
    config.train.batch_size = 8  # of all devices together
    config.train.num_train_steps = 160_000
    config.train.accumulate_steps = 1  # micro-batches per update
    config.train.ema_decay = 0.0  # 0: no average
    config.train.max_skipped_in_a_row = 20  # non-finite updates that stop the run
    config.train.log_every_steps = 50
    config.train.eval_every_steps = 8000
    config.train.checkpoint_every_steps = 1000
    config.train.keep_checkpoints = 3
    config.train.profile = False  # a few early steps, for TensorBoard's profiler

    config.eval = ConfigDict()
    config.eval.batch_size = 8
    return config.lock()


def cityscapes(variant: str, recipe: str) -> ConfigDict:
    """SegNeXt on Cityscapes: 1024², 160k steps of 8 images.

    Args:
      variant: T, S, B or L.
      recipe: "paddle" (PaddleSeg 2.8.0) or "official" (the authors, mmseg 0.24).
    """
    config = base()
    config.model.variant = variant
    if variant == "L":
        config.model.drop_path_rate = 0.3
    if recipe == "official":
        config.loss.normalizer = "all"
        config.schedule.form = "official"
    elif recipe == "paddle":
        config.model.decoder = "paddle"
        config.data.scale_step = 0.25
        config.data.pad = "before_crop"
        config.augment.distortion = "paddle"
        if variant == "T":
            config.schedule.peak = 6e-4
            config.optimizer.head_multiplier = 1.0
            config.optimizer.decay_norm = True
    else:
        raise ValueError(f'unknown recipe {recipe!r}: use "paddle" or "official"')
    return config
