"""SegNeXt: MSCAN and LightHam, and the published variants."""

from typing import Any, NamedTuple, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from segnext_jax.models.hamburger import LightHam
from segnext_jax.models.layers import Initializer, fan_in_normal, fan_out_normal
from segnext_jax.models.mscan import MSCAN
from segnext_jax.models.stack import Remat
from segnext_jax.ops.depthwise import Implementation
from segnext_jax.ops.halo import AxisName
from segnext_jax.ops.nmf import Gradient
from segnext_jax.ops.valid import Size, halve

Variables = dict[str, Any]  # params and batch_stats


class Variant(NamedTuple):
    embed_dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    decoder_channels: int  # of the authors' decoder
    nmf_rank: int


# Guo et al. 2022, table 2, and the authors' configs for the decoder.
VARIANTS = {
    "T": Variant((32, 64, 160, 256), (3, 3, 5, 2), 256, 16),
    "S": Variant((64, 128, 320, 512), (2, 2, 4, 2), 256, 16),
    "B": Variant((64, 128, 320, 512), (3, 3, 12, 3), 512, 64),
    "L": Variant((64, 128, 320, 512), (3, 5, 27, 3), 1024, 64),
}


class Decoder(NamedTuple):
    channels: int
    nmf_rank: int
    kernel_init: Initializer
    classifier_init: Initializer


class SegNeXt(nn.Module):
    """Image → logits at stride 8: `[b h w 3]`, normalised → `[b h/8 w/8 classes]`.

    Images may be smaller than their array: `size`, int32 [b 2], is the true (height,
    width) of each. Inside, their logits are those without padding; `logits_size` of
    them is image.
    """

    backbone: MSCAN
    decoder: LightHam

    def __call__(
        self, image: jax.Array, *, train: bool, size: Size = None
    ) -> jax.Array:
        features = self.backbone(image, train=train, size=size)
        return self.decoder(features[1:], train=train, size=logits_size(size))


def logits_size(size: Size) -> Size:
    """Size of the logits of images of this size: an eighth of it, rounded up."""
    return halve(halve(halve(size)))


def make_model(
    config: ConfigDict,
    num_classes: int,
    *,
    remat: str = "none",
    axis_name: AxisName = None,
) -> SegNeXt:
    """The network that `config.model` describes.

    Args:
      config: `config.model`.
      num_classes: without the ignored label.
      remat: `config.remat`: what training computes again for the backward, "none", each
        "block" or "stage"; less memory, the same values.
      axis_name: of the devices that share the rows of the images (ops/halo.py).

    Raises:
      ValueError: if a name in the config is none of the known ones.
    """
    variant = _choose("model.variant", config.variant, VARIANTS)
    official = Decoder(
        variant.decoder_channels,
        variant.nmf_rank,
        fan_out_normal,
        nn.initializers.normal(0.01),
    )
    decoders = {
        "official": official,
        # mmsegmentation 1.x leaves the rank of B and L at the value it has for T.
        "mmseg": official._replace(nmf_rank=16),
        "paddle": Decoder(256, 16, fan_in_normal, fan_in_normal),
    }
    decoder = _choose("model.decoder", config.decoder, decoders)
    gradient = _choose("model.nmf_gradient", config.nmf_gradient, get_args(Gradient))
    backbone = make_backbone(config, remat=remat, axis_name=axis_name)
    return SegNeXt(
        backbone=backbone,
        decoder=LightHam(
            num_classes=num_classes,
            channels=decoder.channels,
            rank=decoder.nmf_rank,
            kernel_init=decoder.kernel_init,
            classifier_init=decoder.classifier_init,
            dropout_rate=config.dropout_rate,
            nmf_train_steps=config.nmf_train_steps,
            nmf_eval_steps=config.nmf_eval_steps,
            nmf_gradient=gradient,
            dtype=backbone.dtype,
            axis_name=axis_name,
        ),
    )


def make_backbone(
    config: ConfigDict, *, remat: str = "none", axis_name: AxisName = None
) -> MSCAN:
    """The backbone that `config.model` describes. As `make_model`."""
    variant = _choose("model.variant", config.variant, VARIANTS)
    dtypes = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
    return MSCAN(
        embed_dims=variant.embed_dims,
        depths=variant.depths,
        drop_path_rate=config.drop_path_rate,
        dtype=_choose("model.dtype", config.dtype, dtypes),
        depthwise=_choose(
            "model.depthwise", config.depthwise, get_args(Implementation)
        ),
        remat=_choose("remat", remat, get_args(Remat)),
        axis_name=axis_name,
    )


def _choose(key, name, choices):
    """`choices[name]`, or `name` itself where the choices are only names."""
    if name not in choices:
        raise ValueError(f"config.{key} is {name!r}: use one of {', '.join(choices)}")
    return choices[name] if isinstance(choices, dict) else name
