"""Layers that Linen does not have."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from segnext_jax.ops.depthwise import Implementation, depthwise_conv
from segnext_jax.ops.halo import AxisName
from segnext_jax.ops.valid import Size, zero_outside

Dtype = jnp.dtype | type
Initializer = Callable[..., jax.Array]

# Convolutions of the backbone: N(0, √(2 / fan_out)).
fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# Paddle's KaimingNormal, which PaddleSeg gives the decoder.
fan_in_normal = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class DepthwiseConv(nn.Module):
    """Depthwise convolution with bias, stride 1, SAME: [b h w c] → [b h w c].

    What lies outside images of `size` counts as padding, too. `axis_name` is that of
    the devices that share the rows.
    """

    kernel_size: tuple[int, int]
    dtype: Dtype = jnp.float32
    implementation: Implementation = "auto"
    axis_name: AxisName = None

    @nn.compact
    def __call__(self, x: jax.Array, size: Size = None) -> jax.Array:
        channels = x.shape[-1]
        # One input and one output channel per group: fan_out is kh·kw.
        stddev = math.sqrt(2 / math.prod(self.kernel_size))
        kernel = self.param(
            "kernel", nn.initializers.normal(stddev), (*self.kernel_size, channels)
        )
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        x = zero_outside(x, size)
        y = depthwise_conv(
            x, kernel, implementation=self.implementation, axis_name=self.axis_name
        )
        return y + bias


class DropPath(nn.Module):
    """Zeroes the residual branch of whole examples (Huang et al. 2016, section 3).

    Draws from the rng stream `drop_path`; the rest is scaled by 1 / (1 - rate).
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        if not train or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        mask = jax.random.bernoulli(self.make_rng("drop_path"), keep, shape)
        return x * (mask / keep).astype(x.dtype)


class LayerScale(nn.Module):
    """Multiplies every channel by a learned factor that starts at 0.01."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.constant(1e-2), (x.shape[-1],))
        x, scale = nn.dtypes.promote_dtype(x, scale, dtype=self.dtype)
        return x * scale
