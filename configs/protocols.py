"""The published protocols of evaluation, as values of config.eval.

                      official            mmseg1x             paddle
  of                  the authors (0.x)   mmsegmentation 1.2  PaddleSeg 2.8
  Cityscapes          windows of 1024²,   whole images        whole images
                      768 apart
  other data sets     whole images, fitted into the data      whole images of
                      set's box, and then                     their own size
  and then            stretched to ×32    padded to ×32       -
  with several scales
    0.5 0.75 … 1.75   of the box          of the image        0.75 1 1.25
    and flip, average probabilities       probabilities       logits
  images resized as   uint8               uint8               float32
  absent class        left out            left out            IoU 0

The box is that of the peers' configs for the data set, and otherwise
config.data.resize_to; without any, images keep their size, and are not stretched.
"""

from ml_collections import ConfigDict

NAMES = ("official", "mmseg1x", "paddle")

# (height, width) of test images: the authors' local_configs/_base_/datasets, JSeg's for
# iSAID, and configs/_base_/datasets of mmsegmentation 1.2.2.
_BOXES = {
    "ade20k": (512, 2048),
    "ade20k_tfds": (512, 2048),
    "cityscapes": (1024, 2048),
    "cityscapes_tfds": (1024, 2048),
    "coco_stuff": (512, 2048),
    "isaid": (896, 896),
    "loveda": (1024, 1024),
    "pascal_context_59": (520, 520),
    "pascal_context_60": (520, 520),
    "voc2012": (512, 2048),
}
_CITYSCAPES = ("cityscapes", "cityscapes_tfds")
_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def apply(config: ConfigDict, name: str, *, multi_scale: bool = False) -> None:
    """Sets every key of `config.eval` but the batch size.

    Args:
      config: of segmentation; its data set decides on mode and sizes.
      name: one of `NAMES`.
      multi_scale: with the protocol's several scales, and flip.

    Raises ValueError for another name, or a config of another task.
    """
    if name not in NAMES:
        raise ValueError(f"unknown protocol {name!r}: use one of {', '.join(NAMES)}")
    if config.task != "segmentation":
        raise ValueError(
            f"protocol {name!r} is of segmentation, and the config of {config.task}:"
            " do without it"
        )
    source, evaluation = config.data.source, config.eval
    # Of mmsegmentation, in all its versions.
    evaluation.mode = "whole"
    evaluation.crop_size = (1024, 1024)
    evaluation.stride = (768, 768)
    evaluation.scales = _SCALES if multi_scale else (1.0,)
    evaluation.flip = multi_scale
    has_box = source in _BOXES
    evaluation.resize_to = _BOXES[source] if has_box else config.data.resize_to
    evaluation.size_divisor = 1
    evaluation.pad_divisor = 1
    evaluation.rescale = "uint8"
    evaluation.average = "probabilities"
    evaluation.absent_class = "skip"
    if name == "official":
        if source in _CITYSCAPES:
            evaluation.mode = "slide"
        elif source != "isaid" and evaluation.resize_to:
            evaluation.size_divisor = 32
    elif name == "mmseg1x":
        evaluation.pad_divisor = 32
        if multi_scale:
            evaluation.resize_to = ()
    else:
        if multi_scale:
            evaluation.scales = (0.75, 1.0, 1.25)
        evaluation.resize_to = ()
        evaluation.rescale = "float32"
        evaluation.average = "logits"
        evaluation.absent_class = "zero"
