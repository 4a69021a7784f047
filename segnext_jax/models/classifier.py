"""MSCAN with a linear classifier on top, to pre-train and to score backbones."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from segnext_jax.models.mscan import MSCAN
from segnext_jax.models.segnext import make_backbone


class MSCANClassifier(nn.Module):
    """Image → logits: `[b h w 3]`, normalised → `[b num_classes]`, float32.

    The mean over positions of the last stage, then a linear layer (Guo et al. 2022,
    Visual Attention Network, section 3.3). `params["backbone"]` is that of SegNeXt.
    Needs the rng stream `drop_path` when training.
    """

    backbone: MSCAN
    num_classes: int

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        *_, x = self.backbone(image, train=train)
        x = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        # timm's trunc_normal_, which VAN uses, cuts at ±2: a hundred of these σ.
        return nn.Dense(
            self.num_classes, kernel_init=nn.initializers.normal(0.02), name="head"
        )(x)


def make_classifier(
    config: ConfigDict, num_classes: int, *, remat: str = "none"
) -> MSCANClassifier:
    """The network of `config.model`. As `segnext.make_model`."""
    backbone = make_backbone(config, remat=remat)
    return MSCANClassifier(backbone=backbone, num_classes=num_classes)
