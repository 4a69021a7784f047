"""The multi-scale convolution of MSCAN's attention (Guo et al. 2022, equation 1)."""

from collections.abc import Sequence

import jax

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
    total = features
    for across, down in pairs:
        total = total + conv(conv(features, across), down)
    return keep(total)


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
