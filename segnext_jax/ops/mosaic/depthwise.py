"""3×3 depthwise convolution on TPUs, by kernels that shift pixels as they load them.

Pixels are widened to float32 once, into a buffer of which every column is a row of a
register: a tap is a load from another address. For a sum of shifted copies XLA unpacks,
shifts and joins registers again for every tap, 53 to 65 cycles of a v5e for 1024
results. These kernels take 7, and 12 for all gradients.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from segnext_jax.ops.depthwise import Layer
from segnext_jax.ops.halo import AxisName, edge_rows
from segnext_jax.ops.partition import map_examples

_SUBLANES, _LANES = 8, 128  # of a register
_COLUMNS = 128  # of a row at once, in 16 registers
_MARGIN = _SUBLANES  # of the buffer's rows on either side, so that registers fit in
_VMEM = 12 * 2**20  # bytes of a kernel; the compiler allows 16 MiB
_TAPS = 9
_SUMS = _TAPS + 2  # of the gradients: of taps, bias and input bias


def is_supported(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether `x` [b h w c] fills registers, of which some rows fit into VMEM."""
    _, _, w, c = x.shape
    fills_registers = w % (2 * _SUBLANES) == 0 and c % _LANES == 0
    return kernel.shape[:2] == (3, 3) and fills_registers and _fit(x, rows=1)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def conv(
    x: jax.Array, input_bias: jax.Array, layer: Layer, axis_name: AxisName
) -> jax.Array:
    """Convolves every channel of x + input_bias with its own kernel, and adds the bias.

    Stride 1, SAME padding with zeros, to which no bias is added; sums in float32.

    Args:
      x: [b h w c] that `is_supported`.
      input_bias: [c], whose gradient the kernel sums up of what it has in registers.
      layer: kernel [3 3 c] and bias [c].
      axis_name: of the devices that share the rows of `x` (ops/halo.py).

    Returns:
      [b h w c] in the dtype of `x`.
    """
    return _conv_fwd(x, input_bias, layer, axis_name)[0]


def _conv_fwd(x, input_bias, layer, axis_name):
    x += input_bias
    images = [x, edge_rows(x, axis_name)]
    [y] = map_examples(partial(_call, _conv), images, _join(layer))
    return y, (x, layer)


def _conv_bwd(axis_name, residuals, grad):
    x, layer = residuals
    images = [grad, edge_rows(grad, axis_name), x]
    call = partial(_call, _conv_gradients, num_sums=_SUMS)
    dx, sums = map_examples(call, images, _join(layer))
    sums = sums.reshape(len(x), _SUMS, _SUBLANES, -1).sum(axis=(0, 2))
    *taps, of_bias, of_input_bias = sums.astype(x.dtype)
    return dx, of_input_bias, Layer(jnp.stack(taps).reshape(3, 3, -1), of_bias)


conv.defvjp(_conv_fwd, _conv_bwd)


def _join(layer: Layer) -> jax.Array:
    """Taps and bias: [10 c] in float32."""
    vectors = layer.kernel.reshape(_TAPS, -1), layer.bias[None]
    return jnp.concatenate(vectors).astype(jnp.float32)


def _fit(x: jax.Array, rows: int) -> bool:
    """Whether so many rows of a backward's three arrays and the buffer fit into VMEM.

    The arrays twice: some are on their way while others are computed.
    """
    w = x.shape[2]
    arrays = 2 * (3 * rows + 2) * w * x.dtype.itemsize
    buffer = (rows + 2) * (w + 2 * _MARGIN) * 4
    return (arrays + buffer) * _LANES <= _VMEM


def _call(
    program: Callable[..., None],
    images: Sequence[jax.Array],
    parameters: jax.Array,
    *,
    num_sums: int = 0,
) -> Sequence[jax.Array]:
    """Runs `program` on every image, 128 of its channels and some rows, downwards.

    Of `images`, the first [b h w c] and its edges [b 2 w c] come with the rows above
    and below, others [b h w c] without. Then it gets parameters [10 c], what to fill:
    rows of the result [b h w c] and, if there are, sums [b num_sums·8 c] over all of
    them; and a buffer of these rows and those above and below.
    """
    x, edges, *others = images
    b, h, w, c = x.shape
    rows = max(n for n in range(1, h + 1) if h % n == 0 and _fit(x, n))

    def block(count: int, index: Callable[[Any], Any]) -> pl.BlockSpec:
        """Of so many rows."""
        shape = None, count, w, _LANES
        return pl.BlockSpec(shape, lambda n, k, i: (n, index(i), 0, k))

    above = block(1, lambda i: jnp.maximum(i * rows - 1, 0))
    below = block(1, lambda i: jnp.minimum((i + 1) * rows, h - 1))
    own = block(rows, lambda i: i)
    in_specs = [own, block(2, lambda i: 0), above, below, *[own for _ in others]]
    in_specs.append(pl.BlockSpec((_TAPS + 1, _LANES), lambda n, k, i: (0, k)))
    out_specs, out_shape = [own], [jax.ShapeDtypeStruct(x.shape, x.dtype)]
    if num_sums:
        height = num_sums * _SUBLANES
        total = pl.BlockSpec((None, height, _LANES), lambda n, k, i: (n, 0, k))
        out_specs.append(total)
        out_shape.append(jax.ShapeDtypeStruct((b, height, c), jnp.float32))
    call = partial(
        pl.pallas_call,
        program,
        name=program.__name__.strip("_"),
        grid=(b, c // _LANES, h // rows),
        in_specs=in_specs,
        out_specs=out_specs,
        out_shape=out_shape,
        scratch_shapes=[pltpu.VMEM((rows + 2, w + 2 * _MARGIN, _LANES), jnp.float32)],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary")
        ),
        cost_estimate=pl.CostEstimate(
            flops=2 * _TAPS * (1 + len(others)) * x.size,
            transcendentals=0,
            bytes_accessed=(2 + len(others)) * x.nbytes,
        ),
    )
    # By what it is lowered for, not traced for: elsewhere it is interpreted.
    return lax.platform_dependent(
        x,
        edges,
        x,
        x,
        *others,
        parameters,
        tpu=call(),
        default=call(interpret=True),
    )


def _conv(
    x_ref: Any,
    edges_ref: Any,
    above_ref: Any,
    below_ref: Any,
    parameters_ref: Any,
    out_ref: Any,
    buffer_ref: Any,
) -> None:
    _widen(buffer_ref, x_ref, edges_ref, above_ref, below_ref)
    *taps, bias = _vectors(parameters_ref)

    def convolve(row: Any, start: int, size: int, carry: None) -> None:
        total = bias
        for tap, factor in enumerate(taps):
            total += _shift(buffer_ref, row, start, size, tap) * factor
        out_ref[row, pl.ds(start, size)] = total.astype(out_ref.dtype)

    _walk(x_ref.shape, convolve, None)


def _conv_gradients(
    grad_ref: Any,
    edges_ref: Any,
    above_ref: Any,
    below_ref: Any,
    x_ref: Any,
    parameters_ref: Any,
    dx_ref: Any,
    sums_ref: Any,
    buffer_ref: Any,
) -> None:
    @pl.when(pl.program_id(2) == 0)
    def start() -> None:
        sums_ref[...] = jnp.zeros_like(sums_ref)

    _widen(buffer_ref, grad_ref, edges_ref, above_ref, below_ref)
    *taps, _ = _vectors(parameters_ref)

    def add(row: Any, start: int, size: int, sums: list[jax.Array]) -> list[jax.Array]:
        x = x_ref[row, pl.ds(start, size)].astype(jnp.float32)
        dx = jnp.zeros_like(x)
        *of_taps, of_bias, of_input_bias = sums
        for tap, factor in enumerate(taps):
            # Of what x met at this tap: shifted by as much the other way.
            grad = _shift(buffer_ref, row, start, size, _TAPS - 1 - tap)
            dx += grad * factor
            of_taps[tap] += _fold(grad * x)
            if tap == _TAPS // 2:
                of_bias += _fold(grad)
        dx_ref[row, pl.ds(start, size)] = dx.astype(dx_ref.dtype)
        return [*of_taps, of_bias, of_input_bias + _fold(dx)]

    zeros = jnp.zeros((_SUBLANES, _LANES), jnp.float32)
    sums = _walk(x_ref.shape, add, [zeros] * _SUMS)
    sums_ref[...] += jnp.concatenate(sums)


def _vectors(parameters_ref: Any) -> list[jax.Array]:
    return [parameters_ref[i : i + 1] for i in range(_TAPS + 1)]


def _widen(
    buffer_ref: Any, own_ref: Any, edges_ref: Any, above_ref: Any, below_ref: Any
) -> None:
    """Fills the buffer with rows in float32, and with 0 beside them."""
    rows, w, _ = own_ref.shape
    margin = jnp.zeros((_MARGIN, _LANES), jnp.float32)

    def fill(row: Any, pixels: jax.Array) -> None:
        buffer_ref[row, :_MARGIN] = margin
        buffer_ref[row, pl.ds(_MARGIN, w)] = pixels
        buffer_ref[row, _MARGIN + w :] = margin

    def widen(ref: Any, row: Any) -> jax.Array:
        return ref[row].astype(jnp.float32)

    is_first = pl.program_id(2) == 0
    is_last = pl.program_id(2) == pl.num_programs(2) - 1
    fill(0, jnp.where(is_first, widen(edges_ref, 0), widen(above_ref, 0)))
    lax.fori_loop(0, rows, lambda row, _: fill(row + 1, widen(own_ref, row)), None)
    fill(rows + 1, jnp.where(is_last, widen(edges_ref, 1), widen(below_ref, 0)))


def _shift(buffer_ref: Any, row: Any, start: int, size: int, tap: int) -> jax.Array:
    """What columns of a row meet at a tap: [size 128]."""
    i, j = divmod(tap, 3)
    return buffer_ref[row + i, pl.ds(start + _MARGIN - 1 + j, size)]


def _walk(shape: tuple[int, ...], body: Callable[..., Any], carry: Any) -> Any:
    """carry = body(row, first column, number of columns, carry), over all pixels."""
    rows, w, _ = shape
    size = math.gcd(w, _COLUMNS)

    def of_row(row: Any, carry: Any) -> Any:
        for start in range(0, w, size):
            carry = body(row, start, size, carry)
        return carry

    return lax.fori_loop(0, rows, of_row, carry)


def _fold(x: jax.Array) -> jax.Array:
    """Adds registers up: [size 128] → [8 128]."""
    return x.reshape(-1, _SUBLANES, _LANES).sum(axis=0)
