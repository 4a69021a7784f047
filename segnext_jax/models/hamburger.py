"""LightHam, the decoder of SegNeXt (Guo et al. 2022, section 3.2)."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segnext_jax.models.layers import Dtype, Initializer, dense_product
from segnext_jax.ops import nmf
from segnext_jax.ops.halo import AxisName
from segnext_jax.ops.matmul import product
from segnext_jax.ops.resize import resize_valid
from segnext_jax.ops.valid import Size, halve, inside, zero_outside

# Evaluation always starts from these bases, so that a checkpoint has one score; the
# peers draw new ones at every forward pass.
_EVAL_KEY = 0
_EPSILON = 1e-5


class LightHam(nn.Module):
    """Features at strides 8, 16, 32 → logits at stride 8.

    List of `[b h w c]` → `[b h w num_classes]`, float32. Needs the rng streams
    `dropout` and `nmf` when training; otherwise `nmf`, if there is one, draws other
    bases than the usual ones. `size`, int32 [b 2], is that of the images at stride 8.
    `axis_name` is that of the devices that share the rows (ops/halo.py).
    """

    num_classes: int
    channels: int
    rank: int
    kernel_init: Initializer
    classifier_init: Initializer
    dropout_rate: float = 0.1
    nmf_train_steps: int = 6
    nmf_eval_steps: int = 7
    nmf_gradient: nmf.Gradient = "unrolled"
    dtype: Dtype = jnp.float32
    axis_name: AxisName = None

    @nn.compact
    def __call__(
        self, features: list[jax.Array], *, train: bool, size: Size = None
    ) -> jax.Array:
        dense = partial(nn.Dense, dot_general=dense_product)
        pointwise = partial(dense, kernel_init=self.kernel_init, dtype=self.dtype)
        norm = partial(
            nn.GroupNorm,
            num_groups=32,
            epsilon=_EPSILON,
            dtype=self.dtype,
            axis_name=self.axis_name,
        )
        x = Squeeze(
            self.channels, self.kernel_init, self.dtype, self.axis_name, name="squeeze"
        )(features, size)
        # Moments are those of the images alone.
        mask = (
            None if size is None else jnp.broadcast_to(inside(x.shape, size), x.shape)
        )
        x = nn.relu(norm(name="squeeze_norm")(x, mask=mask))

        y = nn.relu(pointwise(self.channels, name="ham_in")(x))
        y = self._global_context(zero_outside(y, size), train=train)
        y = pointwise(self.channels, use_bias=False, name="ham_out")(y)
        x = nn.relu(x + norm(name="ham_out_norm")(y, mask=mask))

        x = pointwise(self.channels, use_bias=False, name="align")(x)
        x = nn.relu(norm(name="align_norm")(x, mask=mask))

        # Dropout2d: whole channels of one example.
        x = nn.Dropout(self.dropout_rate, broadcast_dims=(1, 2))(
            x, deterministic=not train
        )
        return dense(
            self.num_classes, kernel_init=self.classifier_init, name="classifier"
        )(x.astype(jnp.float32))

    def _global_context(self, x: jax.Array, *, train: bool) -> jax.Array:
        b, h, w, d = x.shape
        x = x.reshape(b, h * w, d)
        if train:
            draw = partial(jax.random.fold_in, self.make_rng("nmf"))
            key = jax.vmap(draw)(jnp.arange(b))
            steps, gradient = self.nmf_train_steps, self.nmf_gradient
            x = nmf.nmf(
                x,
                key,
                self.rank,
                steps=steps,
                gradient=gradient,
                axis_name=self.axis_name,
            )
        elif self.has_rng("nmf"):
            key = self.make_rng("nmf")
            x = nmf.nmf(
                x,
                key,
                self.rank,
                steps=self.nmf_eval_steps,
                axis_name=self.axis_name,
            )
        else:
            # Drawn while tracing: an exported program has them as a constant.
            with jax.ensure_compile_time_eval():
                bases = nmf.draw_bases(jax.random.key(_EVAL_KEY), d, self.rank)
            bases = jnp.broadcast_to(bases, (b, d, self.rank))
            x = nmf.factorize(
                x, bases, steps=self.nmf_eval_steps, axis_name=self.axis_name
            )
        return x.reshape(b, h, w, d)


class Squeeze(nn.Module):
    """Enlarges features to the first ones, concatenates and projects them (1×1).

    Computed in another order: projected before they are enlarged, which is the same
    linear map, and summed. List of `[b h w c]`, each half as large as the one before →
    `[b h w channels]`.
    """

    channels: int
    kernel_init: Initializer
    dtype: Dtype
    axis_name: AxisName = None

    @nn.compact
    def __call__(self, features: list[jax.Array], size: Size = None) -> jax.Array:
        widths = [x.shape[-1] for x in features]
        kernel = self.param("kernel", self.kernel_init, (sum(widths), self.channels))
        kernels = jnp.split(kernel.astype(self.dtype), np.cumsum(widths)[:-1])
        shape = features[0].shape[1:3]
        parts, own_size = [], size
        for x, part in zip(features, kernels, strict=True):
            x = product(x.astype(self.dtype), part)
            x = resize_valid(x, own_size, size, shape, self.axis_name)
            parts.append(x.astype(jnp.float32))
            own_size = halve(own_size)
        return sum(parts[1:], parts[0]).astype(self.dtype)
