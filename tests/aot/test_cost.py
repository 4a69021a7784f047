"""Traffic, FLOPs and collectives of small programs whose costs are known."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from segnext_jax.aot import cost, hlo

ROWS, COLUMNS = 16, 32


def _compile(function, *arguments):
    return jax.jit(function).lower(*arguments).compile()


def _array(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def test_a_kernel_reads_its_operands_and_writes_its_result():
    compiled = _compile(lambda x, y: jnp.sin(x) + y, *[_array(ROWS, COLUMNS)] * 2)
    (kernel,) = cost.kernels(hlo.parse(compiled.as_text()))
    assert kernel.times == 1
    assert kernel.bytes == 3 * ROWS * COLUMNS * 4


def test_matrix_products_as_xla_counts_them():
    compiled = _compile(lambda x, y: x @ y, _array(ROWS, COLUMNS), _array(COLUMNS, 8))
    flops = cost.flops(hlo.parse(compiled.as_text()))
    assert flops.matrix == 2 * ROWS * COLUMNS * 8
    assert flops.matrix == compiled.cost_analysis()["flops"]


@pytest.mark.parametrize("groups", [1, 4])
def test_convolutions(groups):
    def conv(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    arguments = _array(1, 10, 12, 8), _array(3, 5, 8 // groups, 4)
    text = _compile(conv, *arguments).as_text()
    assert cost.flops(hlo.parse(text)).matrix == 2 * (8 * 8 * 4) * 3 * 5 * 8 // groups


def test_products_that_are_convolutions_over_a_side_of_one_element():
    """As the compiler for TPUs writes bhwc,cd->bhwd: w is a side of the kernel."""
    text = """ENTRY %main (a: bf16[8,16,1], b: bf16[4,8,2]) -> f32[16,2,4] {
  %a = bf16[8,16,1]{2,1,0} parameter(0)
  %b = bf16[4,8,2]{2,1,0} parameter(1)
  ROOT %c = f32[16,2,4]{2,1,0} convolution(%a, %b), window={size=4 pad=3_3 rhs_reversal=1}, dim_labels=fb0_0io->bf0
}
"""  # noqa: E501
    assert cost.flops(hlo.parse(text)).matrix == 2 * (16 * 4 * 2) * 8


def test_a_loop_counts_once_for_each_iteration():
    def repeat(times):
        def f(x):
            return jax.lax.scan(lambda x, _: (jnp.sin(x @ x), None), x, None, times)[0]

        return hlo.parse(_compile(f, _array(ROWS, ROWS)).as_text())

    few, many = repeat(5), repeat(10)
    assert cost.flops(few).matrix == 5 * 2 * ROWS**3
    assert cost.flops(many).matrix == 10 * 2 * ROWS**3
    grown = sum(k.bytes for k in cost.kernels(many)) - sum(
        k.bytes for k in cost.kernels(few)
    )
    once = next(k for k in cost.kernels(few) if k.times == 5).bytes // 5
    assert grown >= 5 * once > 0


def test_the_trips_of_a_loop_are_read_from_its_condition():
    """As libtpu writes it, which does not note their number."""
    text = """
%body (x: (s32[], f32[8])) -> (s32[], f32[8]) {
  %x = (s32[], f32[8]) parameter(0)
  %i = s32[] get-tuple-element(%x), index=0
  %y = f32[8] get-tuple-element(%x), index=1
  %sine = f32[8] sine(%y), backend_config={"estimated_cycles":"20"}
  %own = f32[8] custom-call(%sine), custom_call_target="tpu_custom_call"
  ROOT %next = (s32[], f32[8]) tuple(%i, %own)
}

%condition (x.1: (s32[], f32[8])) -> pred[] {
  %x.1 = (s32[], f32[8]) parameter(0)
  %i.1 = s32[]{:T(128)} get-tuple-element(%x.1), index=0
  %limit = s32[]{:T(128)} constant(128)
  ROOT %lt = pred[]{:T(512)} compare(%i.1, %limit), direction=LT
}

ENTRY %main (a: (s32[], f32[8])) -> (s32[], f32[8]) {
  %a = (s32[], f32[8]) parameter(0)
  ROOT %while = (s32[], f32[8]) while(%a), condition=%condition, body=%body
}
"""
    module = hlo.parse(text)
    kernels = {kernel.name: kernel for kernel in cost.kernels(module)}
    assert kernels.keys() == {"sine", "own"}
    for kernel in kernels.values():
        assert (kernel.times, kernel.bytes) == (128, 128 * 2 * 8 * 4)
    assert cost.cycles(module) == 128 * 20
    assert cost.num_pallas_kernels(module) == 128


def test_of_what_it_slices_a_fusion_reads_the_slice():
    def f(x, start):
        return jnp.sin(jax.lax.dynamic_slice_in_dim(x, start, 2))

    compiled = _compile(f, _array(1000, COLUMNS), jax.ShapeDtypeStruct((), jnp.int32))
    moved = sum(k.bytes for k in cost.kernels(hlo.parse(compiled.as_text())))
    assert 2 * (2 * COLUMNS * 4) <= moved < 3 * (2 * COLUMNS * 4)


def test_an_update_in_place_moves_the_update():
    text = """
%fused (p0: f32[1000,8], p1: f32[2,8], p2: s32[]) -> f32[1000,8] {
  %p0 = f32[1000,8]{1,0} parameter(0)
  %p1 = f32[2,8]{1,0} parameter(1)
  %p2 = s32[] parameter(2)
  ROOT %update = f32[1000,8]{1,0} dynamic-update-slice(%p0, %p1, %p2, %p2)
}

ENTRY %main (a: f32[1000,8], b: f32[2,8], c: s32[]) -> f32[1000,8] {
  %a = f32[1000,8]{1,0} parameter(0)
  %b = f32[2,8]{1,0} parameter(1)
  %c = s32[] parameter(2)
  ROOT %fusion = f32[1000,8]{1,0} fusion(%a, %b, %c), kind=kLoop, calls=%fused
}
"""
    (kernel,) = cost.kernels(hlo.parse(text))
    assert kernel.bytes == 2 * (2 * 8 * 4) + 4


def test_transfers_to_fast_memory_only_read():
    text = """
ENTRY %main (a: f32[64,128]) -> f32[8,128] {
  %a = f32[64,128]{1,0:T(8,128)} parameter(0)
  %start = ((f32[64,128]{1,0:T(8,128)}), f32[8,128]{1,0:T(8,128)S(1)}, s32[]) slice-start(%a), slice={[0:8], [0:128]}
  %done = f32[8,128]{1,0:T(8,128)S(1)} slice-done(%start)
  ROOT %sine = f32[8,128]{1,0:T(8,128)} sine(%done)
}
"""  # noqa: E501
    moved = {k.name: k.bytes for k in cost.kernels(hlo.parse(text))}
    assert moved == {"start": 0, "done": 8 * 128 * 4, "sine": 8 * 128 * 4}


def test_collectives_by_kind():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = NamedSharding(mesh, P("data"))

    def f(x):
        def turn(x):
            return jax.lax.ppermute(x, "data", [(i, (i + 1) % 8) for i in range(8)])

        turned = jax.shard_map(turn, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
        return jnp.sum(turned(x), axis=0)

    x = jax.ShapeDtypeStruct((16, COLUMNS), jnp.float32, sharding=sharded)
    found = cost.collectives(hlo.parse(_compile(f, x).as_text()))
    assert found == {
        "all-reduce": cost.Collective(1, COLUMNS * 4),
        "collective-permute": cost.Collective(1, 2 * COLUMNS * 4),
    }


def test_families_are_kernels_of_one_name():
    kernels = [
        cost.Kernel(name, "fusion", "", 1, size)
        for name, size in (("add_fusion.12", 5), ("add_fusion", 7), ("copy.3.clone", 2))
    ]
    assert cost.families(kernels) == {"add_fusion": 12, "copy": 2}
