"""The multi-scale convolution of MSCAN's attention (Guo et al. 2022, equation 1)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from segnext_jax.ops.banded import (
    convolve_with_each,
    is_worth_its_matrices,
    sum_convolutions,
)
from segnext_jax.ops.depthwise import Implementation, Layer, choose, depthwise_conv
from segnext_jax.ops.halo import AxisName
from segnext_jax.ops.keep import keep
from segnext_jax.ops.triton import depthwise as triton_depthwise
from segnext_jax.ops.triton.strips import Strips, add_strips, add_strips_gradients
from segnext_jax.ops.valid import Size, zero_outside


def multi_scale_conv(
    x: jax.Array,
    base: Layer,
    pairs: Sequence[tuple[Layer, Layer]],
    *,
    implementation: Implementation = "auto",
    axis_name: AxisName = None,
    size: Size = None,
) -> jax.Array:
    """A depthwise convolution, pairs of strips on top of it, and the sum of all.

    Args:
      x: [b h w c].
      base: kernel [kh kw c], odd, and bias [c], in the dtype of `x`, as the others.
      pairs: of convolutions one after the other: kernels [1 k c] and [k 1 c].
      implementation: as of `depthwise_conv`.
      axis_name: of the devices that share the rows of `x` (ops/halo.py).
      size: int32 [b 2], of images smaller than their arrays.

    Returns:
      [b h w c] in the dtype of `x`.
    """
    implementation = choose(implementation)
    if implementation == "triton" and axis_name is None and size is None:
        return _triton_multi_scale(x, base, tuple(pairs))

    def conv(x: jax.Array, layer: Layer) -> jax.Array:
        x = zero_outside(x, size)
        y = depthwise_conv(
            x, layer.kernel, implementation=implementation, axis_name=axis_name
        )
        return y + layer.bias

    features = keep(conv(x, base))
    longest = max(across.kernel.shape[1] for across, _ in pairs)
    shapes = (1, longest), (longest, 1)
    if (
        implementation == "shift"
        and jax.default_backend() == "tpu"
        and all(is_worth_its_matrices(x.shape, shape) for shape in shapes)
    ):
        return keep(_add_strips_at_once(features, _strips(pairs), axis_name, size))
    total = features
    for across, down in pairs:
        total = total + conv(conv(features, across), down)
    return keep(total)


def _add_strips_at_once(
    x: jax.Array, strips: Sequence[Strips], axis_name: AxisName, size: Size
) -> jax.Array:
    """Of all pairs the first convolutions, then the second ones with their sum.

    In two products: the compiler for TPU v5e expects 71 instead of 74 million cycles of
    a train step of SegNeXt-T (docs/performance.md).
    """
    across, down = (
        _stack_kernels(kernels)
        for kernels in zip(*((pair.across, pair.down) for pair in strips), strict=True)
    )
    y = convolve_with_each(zero_outside(x, size), across, 2, axis_name)
    y += jnp.stack([pair.across_bias for pair in strips])[:, None, None, None]
    y = keep(jax.vmap(lambda y: zero_outside(y, size))(y))
    y = sum_convolutions(y, down, 1, axis_name)
    return x + y + sum(pair.down_bias for pair in strips)


def _stack_kernels(kernels: Sequence[jax.Array]) -> jax.Array:
    """[k c], centred in as many taps as the longest has: [n longest c]."""
    longest = max(len(kernel) for kernel in kernels)
    sides = [(longest - len(kernel)) // 2 for kernel in kernels]
    return jnp.stack(
        [jnp.pad(k, ((n, n), (0, 0))) for k, n in zip(kernels, sides, strict=True)]
    )


@jax.custom_vjp
def _triton_multi_scale(
    x: jax.Array, base: Layer, pairs: tuple[tuple[Layer, Layer], ...]
) -> jax.Array:
    total, _ = _triton_multi_scale_fwd(x, base, pairs)
    return total


def _triton_multi_scale_fwd(x, base, pairs):
    features = triton_depthwise.conv(x, base.kernel, bias=base.bias)
    return add_strips(features, _strips(pairs)), (x, features, base, pairs)


def _triton_multi_scale_bwd(residuals, grad):
    x, features, base, pairs = residuals
    grad, strips = add_strips_gradients(features, _strips(pairs), grad)
    gradients = triton_depthwise.conv_gradients(x, base.kernel, grad)
    of_parameters = jax.tree.map(
        lambda gradient, parameter: gradient.reshape(parameter.shape).astype(
            parameter.dtype
        ),
        (Layer(gradients.kernel, gradients.bias), _pairs(strips)),
        (base, pairs),
    )
    return gradients.x, *of_parameters


_triton_multi_scale.defvjp(_triton_multi_scale_fwd, _triton_multi_scale_bwd)


def _strips(pairs: Sequence[tuple[Layer, Layer]]) -> list[Strips]:
    return [
        Strips(across.kernel[0], across.bias, down.kernel[:, 0], down.bias)
        for across, down in pairs
    ]


def _pairs(strips: Sequence[Strips]) -> tuple[tuple[Layer, Layer], ...]:
    return tuple(
        (Layer(pair.across, pair.across_bias), Layer(pair.down, pair.down_bias))
        for pair in strips
    )
