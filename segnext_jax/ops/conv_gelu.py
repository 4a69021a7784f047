"""The inside of MSCAN's feed-forward network: 3×3 depthwise convolution and GELU."""

import jax
import jax.numpy as jnp

from segnext_jax.ops.depthwise import Implementation, Layer, choose, depthwise_conv
from segnext_jax.ops.gelu import gelu
from segnext_jax.ops.halo import AxisName
from segnext_jax.ops.mosaic import depthwise as mosaic_depthwise
from segnext_jax.ops.partition import can_map_examples
from segnext_jax.ops.triton import depthwise as triton_depthwise
from segnext_jax.ops.valid import Size, zero_outside


def conv_gelu(
    x: jax.Array,
    input_bias: jax.Array,
    conv: Layer,
    *,
    implementation: Implementation = "auto",
    axis_name: AxisName = None,
    size: Size = None,
) -> jax.Array:
    """GELU of a depthwise convolution of x + input_bias, exact, SAME padding.

    The bias of the product that makes x is here because a kernel that reads x adds it
    for nothing, and its gradient is a sum over what another kernel has in registers.

    Args:
      x: [b h w c].
      input_bias: [c], in the dtype of `x`, as the others.
      conv: kernel [kh kw c], odd, and bias [c].
      implementation: as of `depthwise_conv`.
      axis_name: of the devices that share the rows of `x` (ops/halo.py).
      size: int32 [b 2], of images smaller than their arrays.

    Returns:
      [b h w c] in the dtype of `x`.
    """
    implementation = choose(implementation)
    if implementation == "triton" and axis_name is None and size is None:
        return _triton_conv_gelu(x, input_bias, conv)
    if size is not None:
        x, input_bias = zero_outside(x + input_bias, size), jnp.zeros_like(input_bias)
    if implementation == "shift" and _has_mosaic(x, conv.kernel):
        y = mosaic_depthwise.conv(x, input_bias, conv, axis_name)
    else:
        y = depthwise_conv(
            x + input_bias,
            conv.kernel,
            implementation=implementation,
            axis_name=axis_name,
        )
        y += conv.bias
    return gelu(y)


def _has_mosaic(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether the kernel for TPUs takes these, on the default platform."""
    return (
        jax.default_backend() == "tpu"
        and can_map_examples(len(x))
        and mosaic_depthwise.is_supported(x, kernel)
    )


@jax.custom_vjp
def _triton_conv_gelu(x: jax.Array, input_bias: jax.Array, conv: Layer) -> jax.Array:
    return triton_depthwise.conv(
        x, conv.kernel, input_bias=input_bias, bias=conv.bias, is_activated=True
    )


def _triton_conv_gelu_fwd(x, input_bias, conv):
    return _triton_conv_gelu(x, input_bias, conv), (x, input_bias, conv)


def _triton_conv_gelu_bwd(residuals, grad):
    # What enters the GELU is computed again: keeping it would be one array more to
    # write, keep and read.
    x, input_bias, conv = residuals
    grad = triton_depthwise.conv(
        x, conv.kernel, input_bias=input_bias, bias=conv.bias, grad=grad
    )
    gradients = triton_depthwise.conv_gradients(
        x, conv.kernel, grad, input_bias=input_bias
    )
    of_parameters = jax.tree.map(
        lambda gradient, parameter: gradient.astype(parameter.dtype),
        (gradients.input_bias, Layer(gradients.kernel, gradients.bias)),
        (input_bias, conv),
    )
    return gradients.x, *of_parameters


_triton_conv_gelu.defvjp(_triton_conv_gelu_fwd, _triton_conv_gelu_bwd)
