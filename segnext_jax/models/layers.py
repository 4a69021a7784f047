"""Layers that Linen does not have."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segnext_jax.ops.depthwise import Implementation, Layer
from segnext_jax.ops.halo import AxisName
from segnext_jax.ops.matmul import product
from segnext_jax.ops.strided import strided_conv

Dtype = jnp.dtype | type
Initializer = Callable[..., jax.Array]

# Convolutions of the backbone: N(0, √(2 / fan_out)).
fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# Paddle's KaimingNormal, which PaddleSeg gives the decoder.
fan_in_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class LayerParams(nn.Module):
    """The parameters of a layer that an operator computes together with others."""

    shape: tuple[int, ...]  # of the kernel, […, channels]
    kernel_init: Initializer
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self) -> Layer:
        kernel = self.param("kernel", self.kernel_init, self.shape)
        bias = self.param("bias", nn.initializers.zeros, self.shape[-1:])
        return Layer(*nn.dtypes.promote_dtype(kernel, bias, dtype=self.dtype))


def depthwise_params(
    kernel_size: tuple[int, int], channels: int, dtype: Dtype, *, name: str
) -> Layer:
    """Kernel [kh kw c] and bias [c] of a depthwise convolution of this name."""
    # One input and one output channel per group: fan_out is kh·kw.
    init = nn.initializers.normal(math.sqrt(2 / math.prod(kernel_size)))
    return LayerParams((*kernel_size, channels), init, dtype, name=name)()


def pointwise_params(inputs: int, outputs: int, dtype: Dtype, *, name: str) -> Layer:
    """Kernel [inputs outputs] and bias of a 1×1 convolution of this name."""
    return LayerParams((inputs, outputs), fan_out_normal, dtype, name=name)()


def dense_product(x: jax.Array, kernel: jax.Array, *_, **__) -> jax.Array:
    """`product` as the `dot_general` of nn.Dense, whose dimensions are always these."""
    return product(x, kernel)


class StridedConv(nn.Module):
    """3×3 convolution of stride 2 with bias: [b h w c] → [b h/2 w/2 dim].

    `implementation` and `axis_name` as of ops/strided.py.
    """

    dim: int
    dtype: Dtype = jnp.float32
    implementation: Implementation = "auto"
    axis_name: AxisName = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", fan_out_normal, (3, 3, x.shape[-1], self.dim))
        bias = self.param("bias", nn.initializers.zeros, (self.dim,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        conv = strided_conv(
            x,
            kernel,
            implementation=self.implementation,
            axis_name=self.axis_name,
        )
        return conv + bias


def drop_path(key: jax.Array, rates: np.ndarray, batch: int) -> jax.Array:
    """Factors of residual branches that drop whole examples (Huang et al. 2016).

    Args:
      key: of this step.
      rates: [n], the share of examples that each block drops; below 1.
      batch: number of examples.

    Returns:
      float32 [n 2 batch], for two branches a block: 0, or 1 / (1 - rate).
    """
    keep = 1 - rates[:, None, None].astype(np.float32)
    return jax.random.bernoulli(key, keep, (len(rates), 2, batch)) / keep


def scale_examples(x: jax.Array, scales: jax.Array | None) -> jax.Array:
    """Multiplies each example of [b …] by its own of [b], if there are any."""
    if scales is None:
        return x
    return x * scales.reshape(-1, *(1,) * (x.ndim - 1)).astype(x.dtype)


class LayerScale(nn.Module):
    """Multiplies every channel by a learned factor that starts at 0.01."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.constant(1e-2), (x.shape[-1],))
        x, scale = nn.dtypes.promote_dtype(x, scale, dtype=self.dtype)
        return x * scale
