"""Depthwise convolution, the operator that bounds SegNeXt's speed.

XLA's grouped convolution is slow on every platform measured (jax issues 13800 and
23713), so the operator has several implementations of one definition.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax

Implementation = Literal["auto", "xla", "shift", "portable"]


def depthwise_conv(
    x: jax.Array, kernel: jax.Array, *, implementation: Implementation = "auto"
) -> jax.Array:
    """Convolves every channel with its own kernel: stride 1, SAME zero padding.

    Args:
      x: [b h w c], float32 or bfloat16.
      kernel: [kh kw c], kh and kw odd, same dtype as `x`.
      implementation: "xla" is the grouped convolution, "shift" the sum of shifted
        copies with a hand-written backward, "auto" the faster of the two on the
        default platform: docs/performance.md has the measurements. "portable" is for
        programs exported to several platforms: each takes the faster one.

    Returns:
      [b h w c] in the dtype of `x`.

    Raises:
      ValueError: if the kernel is even, or does not fit `x`.
    """
    if kernel.ndim != 3:
        raise ValueError(f"kernel must be [kh kw c], got {kernel.shape}")
    kh, kw, channels = kernel.shape
    if kh % 2 == 0 or kw % 2 == 0:
        raise ValueError(f"kernel size must be odd, got ({kh}, {kw})")
    if x.ndim != 4 or x.shape[-1] != channels:
        raise ValueError(
            f"x must be [b h w {channels}] for a kernel of {channels} channels, "
            f"got {x.shape}"
        )
    if x.dtype != kernel.dtype:
        raise ValueError(f"x is {x.dtype} but the kernel is {kernel.dtype}")
    if implementation == "auto":
        implementation = _fastest(jax.default_backend())
    if implementation == "xla":
        return _grouped_conv(x, kernel)
    if implementation == "shift":
        return _shift_conv(x, kernel)
    if implementation == "portable":
        return lax.platform_dependent(
            x, kernel, cuda=_grouped_conv, rocm=_grouped_conv, default=_shift_conv
        )
    raise ValueError(
        f"unknown implementation {implementation!r}: use one of "
        f"{', '.join(get_args(Implementation))}"
    )


def _fastest(platform: str) -> Implementation:
    # docs/performance.md: cuDNN's grouped convolution moves fewer bytes on Hopper
    # (91.6 against 112.3 GB a step); shift-and-add wins on CPU (1.4 against 8.3 s a
    # step) and on TPU v5e (43 against 73 GB).
    return "xla" if platform in ("gpu", "cuda", "rocm") else "shift"


def _grouped_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None, :],
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@jax.custom_vjp
def _shift_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    kh, kw, _ = kernel.shape
    _, h, w, _ = x.shape
    # A column more than needed: rows of a multiple of 4 kB lie in the same few sets of
    # a CPU's cache and drive each other out; tall kernels take up to twice as long.
    padded = materialize(
        jnp.pad(x, ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2 + 1), (0, 0)))
    )
    total = sum_taps(padded, kernel, (h, w)).astype(x.dtype)
    # XLA puts such a sum into everything that uses it, to be computed there once more;
    # padding it does not.
    total = materialize(jnp.pad(total, ((0, 0), (0, 0), (0, 1), (0, 0))))
    return total[:, :, :w]


def sum_taps(padded: jax.Array, kernel: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Convolves every channel by shift-and-add, without padding: `shape` in float32."""
    kh, kw, _ = kernel.shape
    h, w = shape
    total = jnp.zeros((padded.shape[0], h, w, padded.shape[-1]), jnp.float32)
    for i in range(kh):
        for j in range(kw):
            shifted = padded[:, i : i + h, j : j + w].astype(jnp.float32)
            total += shifted * kernel[i, j].astype(jnp.float32)
    return total


def materialize(x: jax.Array) -> jax.Array:
    """On a CPU keeps XLA from moving what follows into what `x` comes from."""
    return lax.platform_dependent(x, cpu=lax.optimization_barrier, default=lambda x: x)


def _shift_conv_fwd(x, kernel):
    return _shift_conv(x, kernel), (x, kernel)


def _shift_conv_bwd(residuals, grad):
    x, kernel = residuals
    # The transpose of a SAME convolution with an odd kernel is the SAME convolution
    # with the kernel turned by 180 degrees.
    return _shift_conv(grad, kernel[::-1, ::-1]), _kernel_gradient(x, grad, kernel)


_shift_conv.defvjp(_shift_conv_fwd, _shift_conv_bwd)


def _kernel_gradient(x: jax.Array, grad: jax.Array, kernel: jax.Array) -> jax.Array:
    """Sums x·grad for every tap, a few image rows at a time.

    The rows of one step stay in cache while kh·kw products read them; summing whole
    images tap by tap reads `x` and `grad` from memory once per tap, which doubles the
    time of the whole train step on CPU.
    """
    kh, kw, _ = kernel.shape
    _, h, w, _ = x.shape
    padded = _pad(x, kh, kw)
    rows = 2 if h % 2 == 0 else 1  # 1.5 times as fast as row by row, 4 is no faster

    def add_rows(total, start):
        x_rows = lax.dynamic_slice_in_dim(padded, start, rows + kh - 1, axis=1)
        grad_rows = lax.dynamic_slice_in_dim(grad, start, rows, axis=1)
        x_rows, grad_rows = x_rows.astype(jnp.float32), grad_rows.astype(jnp.float32)
        taps = [
            jnp.sum(x_rows[:, i : i + rows, j : j + w] * grad_rows, axis=(0, 1, 2))
            for i in range(kh)
            for j in range(kw)
        ]
        return total + jnp.stack(taps).reshape(total.shape), None

    total = jnp.zeros(kernel.shape, jnp.float32)
    total, _ = lax.scan(add_rows, total, jnp.arange(0, h, rows))
    return total.astype(kernel.dtype)


def _pad(x: jax.Array, kh: int, kw: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0)))
