"""LightHam, the decoder of SegNeXt (Guo et al. 2022, section 3.2)."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from segnext_jax.models.layers import Dtype, Initializer
from segnext_jax.ops.nmf import Gradient, nmf
from segnext_jax.ops.resize import resize_bilinear

# Evaluation always starts from these bases, so that a checkpoint has one score; the
# peers draw new ones at every forward pass.
_EVAL_KEY = 0
_EPSILON = 1e-5


class LightHam(nn.Module):
    """Features at strides 8, 16, 32 → logits at stride 8.

    List of `[b h w c]` → `[b h w num_classes]`, float32. Needs the rng streams
    `dropout` and `nmf` when training.
    """

    num_classes: int
    channels: int
    rank: int
    kernel_init: Initializer
    classifier_init: Initializer
    dropout_rate: float = 0.1
    nmf_train_steps: int = 6
    nmf_eval_steps: int = 7
    nmf_gradient: Gradient = "unrolled"
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, features: list[jax.Array], *, train: bool) -> jax.Array:
        pointwise = partial(nn.Dense, kernel_init=self.kernel_init, dtype=self.dtype)
        norm = partial(nn.GroupNorm, num_groups=32, epsilon=_EPSILON, dtype=self.dtype)
        size = features[0].shape[1:3]
        x = jnp.concatenate([resize_bilinear(f, size) for f in features], axis=-1)

        x = pointwise(self.channels, use_bias=False, name="squeeze")(x)
        x = nn.relu(norm(name="squeeze_norm")(x))

        y = nn.relu(pointwise(self.channels, name="ham_in")(x))
        y = self._global_context(y, train=train)
        y = pointwise(self.channels, use_bias=False, name="ham_out")(y)
        x = nn.relu(x + norm(name="ham_out_norm")(y))

        x = pointwise(self.channels, use_bias=False, name="align")(x)
        x = nn.relu(norm(name="align_norm")(x))

        # Dropout2d: whole channels of one example.
        x = nn.Dropout(self.dropout_rate, broadcast_dims=(1, 2))(
            x, deterministic=not train
        )
        return nn.Dense(
            self.num_classes, kernel_init=self.classifier_init, name="classifier"
        )(x.astype(jnp.float32))

    def _global_context(self, x: jax.Array, *, train: bool) -> jax.Array:
        b, h, w, d = x.shape
        if train:
            draw = partial(jax.random.fold_in, self.make_rng("nmf"))
            key = jax.vmap(draw)(jnp.arange(b))
            steps = self.nmf_train_steps
        else:
            key = jax.random.key(_EVAL_KEY)
            steps = self.nmf_eval_steps
        x = x.reshape(b, h * w, d)
        x = nmf(x, key, self.rank, steps=steps, gradient=self.nmf_gradient)
        return x.reshape(b, h, w, d)
