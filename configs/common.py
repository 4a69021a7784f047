"""Every config key with its usual value, and the two published Cityscapes recipes.

Durations are in steps; sizes are (height, width).
"""

from ml_collections import ConfigDict

from configs import protocols


def base(task: str = "segmentation") -> ConfigDict:
    """What all recipes of a task share; they change values but add no key.

    Args:
      task: "segmentation" (SegNeXt) or "classification" (its backbone).
    """
    tasks = {"segmentation": _segmentation, "classification": _classification}
    if task not in tasks:
        raise ValueError(f"unknown task {task!r}: use one of {', '.join(tasks)}")
    config = ConfigDict()
    config.task = task
    config.seed = 0
    # What the backward computes again: none, each block or stage. Less memory, slower.
    config.remat = "none"

    config.mesh = ConfigDict()  # of all devices; -1: the rest
    config.mesh.data = -1  # splits batches
    config.mesh.spatial = 1  # splits the rows of every image

    config.init_from = ConfigDict()
    config.init_from.path = ""  # a checkpoint, or weights of another implementation
    config.init_from.part = "all"  # or "backbone"
    config.init_from.new_classifier = False  # do not take it: for other classes

    config.model = ConfigDict()
    config.model.variant = "T"  # T, S, B, L
    config.model.dtype = "bfloat16"  # of activations; weights are float32
    config.model.drop_path_rate = 0.1
    config.model.depthwise = "auto"  # auto, xla, shift, triton

    config.data = ConfigDict()
    config.data.train_split = "train"
    config.data.on_unreadable = "stop"  # or "skip"

    config.augment = ConfigDict()
    config.augment.flip_probability = 0.5

    config.loss = ConfigDict()

    config.optimizer = ConfigDict()
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.999
    config.optimizer.eps = 1e-8
    config.optimizer.clip_norm = 0.0  # 0: no clipping

    config.schedule = ConfigDict()
    config.schedule.power = 1.0  # of the polynomial forms
    config.schedule.warmup_start = 1e-6  # learning rate, or ratio (official)

    config.train = ConfigDict()
    config.train.accumulate_steps = 1  # micro-batches per update
    config.train.ema_decay = 0.0  # 0: no average
    config.train.max_skipped_in_a_row = 20  # non-finite updates that stop the run
    config.train.log_every_steps = 50
    config.train.checkpoint_every_steps = 1000
    config.train.keep_checkpoints = 3
    config.train.profile = False  # a few early steps, for TensorBoard's profiler

    config.eval = ConfigDict()
    tasks[task](config)
    return config.lock()


def complete(config: ConfigDict) -> ConfigDict:
    """Gives keys that are newer than a checkpoint's config their usual values."""
    completed = base(config.task)
    with completed.unlocked():
        completed.update(config)
    return completed


def _segmentation(config: ConfigDict) -> None:
    # mmseg: as official, with NMF rank 16; paddle: 256 channels, rank 16, fan-in init
    config.model.decoder = "official"
    config.model.dropout_rate = 0.1
    config.model.nmf_train_steps = 6
    config.model.nmf_eval_steps = 7
    config.model.nmf_gradient = "unrolled"  # or "one_step"

    config.data.source = "cityscapes"  # a name in data/sources/__init__.py, or "folder"
    config.data.root = "datasets/cityscapes"
    config.data.val_split = "val"
    config.data.classes = ""  # of a folder: a class file, or a source that has them
    config.data.crop_size = (1024, 1024)
    config.data.resize_to = ()  # (h, w) to fit images into first; (): as they are
    config.data.scale_range = (0.5, 2.0)
    config.data.scale_step = 0.0  # 0: any scale in the range
    config.data.max_class_ratio = 0.75  # of one class in a crop; 1: any crop
    config.data.rare_classes = ()  # names; a crop then has a pixel of one of them
    config.data.rare_class_probability = 0.0
    config.data.pad = "after_distortion"  # or "before_crop"

    config.augment.distortion = "photometric"  # photometric, paddle, none

    # Weights of the terms in the sum; a term of weight 0 is not computed.
    config.loss.cross_entropy = 1.0
    config.loss.focal = 0.0
    config.loss.dice = 0.0
    config.loss.lovasz = 0.0
    config.loss.normalizer = "valid"  # or "all" pixels
    config.loss.class_weights = ()  # one a class, for cross-entropy and focal; (): 1
    config.loss.ohem = "none"  # hard pixels of the cross-entropy: none, mmseg, paddle
    config.loss.ohem_threshold = 0.7  # easy from this probability on
    config.loss.ohem_min_kept = 100_000  # pixels; an image (mmseg), a batch (paddle)
    config.loss.focal_gamma = 2.0
    config.loss.focal_alpha = 0.5  # of the class itself; 1 - alpha of the others

    config.optimizer.weight_decay = 0.01
    config.optimizer.decay = "no_norm"  # what is decayed: all, no_norm, matrices
    config.optimizer.head_multiplier = 10.0  # of the decoder's learning rate

    config.schedule.form = "paddle"  # official, paddle, cosine
    config.schedule.peak = 6e-5
    config.schedule.end = 0.0
    config.schedule.warmup_steps = 1500

    config.train.batch_size = 8  # of all devices together
    config.train.num_train_steps = 160_000
    config.train.eval_every_steps = 8000

    config.eval.batch_size = 8  # images read at a time; each is predicted by itself
    config.eval.mode = "whole"  # or "slide", in windows
    config.eval.crop_size = (1024, 1024)  # of a window
    config.eval.stride = (768, 768)  # between windows
    config.eval.scales = (1.0,)  # of the images; the scores are averaged
    config.eval.flip = False  # average with the mirrored images, too
    config.eval.resize_to = ()  # (h, w) to fit images into first; (): as they are
    config.eval.size_divisor = 1  # stretch images to multiples of it
    config.eval.pad_divisor = 1  # pad them to multiples of it; all of it is image
    config.eval.rescale = "uint8"  # images when scaled are rounded; or "float32"
    config.eval.average = "probabilities"  # or "logits"
    config.eval.absent_class = "skip"  # its IoU in the mean: skip, zero


def _classification(config: ConfigDict) -> None:
    """ImageNet in the recipe of Guo et al. 2022, Visual Attention Network."""
    config.data.source = "imagenet"
    config.data.root = "datasets/tfds"  # data_dir of TensorFlow Datasets
    config.data.val_split = "validation"
    config.data.crop_size = (224, 224)
    config.data.area_range = (0.08, 1.0)  # of the image
    config.data.aspect_range = (3 / 4, 4 / 3)
    config.data.randaugment_ops = 2
    config.data.randaugment_magnitude = 9.0
    config.data.randaugment_std = 0.5
    config.data.eval_crop_ratio = 0.9  # crop / short side of the resized image

    config.augment.erase_probability = 0.25
    config.augment.mixup_alpha = 0.8  # 0: no mixup
    config.augment.cutmix_alpha = 1.0  # 0: no CutMix

    config.loss.label_smoothing = 0.1

    config.optimizer.weight_decay = 0.05
    config.optimizer.decay = "matrices"
    config.optimizer.head_multiplier = 1.0  # there is no decoder

    config.schedule.form = "cosine"
    config.schedule.peak = 1e-3
    config.schedule.end = 1e-6
    config.schedule.warmup_steps = 5 * 1251  # 5 epochs of 1.28M images

    config.train.batch_size = 1024
    config.train.num_train_steps = 300 * 1251
    config.train.eval_every_steps = 5 * 1251

    config.eval.batch_size = 1024


def official(variant: str) -> ConfigDict:
    """The authors' recipe, which they have for all data sets (mmseg 0.24).

    Data set, crop, batch and number of steps are those of Cityscapes until changed.

    Args:
      variant: t, s, b or l.
    """
    if variant.upper() not in ("T", "S", "B", "L"):
        raise ValueError(f"unknown variant {variant!r}: use one of t, s, b, l")
    config = base()
    config.model.variant = variant.upper()
    if variant.upper() == "L":
        config.model.drop_path_rate = 0.3
    config.loss.normalizer = "all"
    config.schedule.form = "official"
    return config


def cityscapes(variant: str, recipe: str) -> ConfigDict:
    """SegNeXt on Cityscapes: 1024², 160k steps of 8 images.

    Args:
      variant: T, S, B or L.
      recipe: "paddle" (PaddleSeg 2.8.0) or "official" (the authors, mmseg 0.24).
    """
    config = official(variant)
    if recipe == "paddle":
        config.model.decoder = "paddle"
        config.data.scale_step = 0.25
        config.data.pad = "before_crop"
        config.augment.distortion = "paddle"
        config.loss.normalizer = "valid"
        config.schedule.form = "paddle"
        if config.model.variant == "T":
            config.schedule.peak = 6e-4
            config.optimizer.head_multiplier = 1.0
            config.optimizer.decay = "all"
    elif recipe == "official":
        config.data.resize_to = (1024, 2048)  # as they are; it rounds sizes as mmcv
    else:
        raise ValueError(f'unknown recipe {recipe!r}: use "paddle" or "official"')
    protocols.apply(config, recipe)
    return config
