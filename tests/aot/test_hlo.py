"""Sizes as XLA allocates them; the text as XLA writes it."""

import jax
import jax.numpy as jnp
import pytest

from segnext_jax.aot import hlo


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("f32[]", 4),
        ("pred[3]", 3),
        ("bf16[8,64]{1,0}", 8 * 64 * 2),
        ("(f32[2], s32[3], token[])", 20),
        # Both are 138,412,032 and 69,206,016 bytes in libtpu's assignment: 16 channels
        # take the place of 128.
        ("f32[512,8,66,16]{3,1,2,0:T(8,128)}", 132 * 2**20),
        ("bf16[512,8,66,16]{3,1,2,0:T(8,128)(2,1)}", 66 * 2**20),
        # A tile has more dimensions than the array: only those that are there count.
        ("f32[32]{0:T(128)}", 128 * 4),
    ],
)
def test_bytes_of_an_array(shape, expected):
    assert hlo.num_bytes(shape) == expected


def test_only_what_is_in_the_memory_of_the_device():
    shape = "(f32[8,128]{1,0:T(8,128)}, f32[8,128]{1,0:T(8,128)S(1)}, u32[]{:S(2)})"
    assert hlo.num_bytes(shape, hbm_only=True) == 8 * 128 * 4


def test_reads_what_xla_writes():
    def f(x):
        return jax.lax.fori_loop(0, 5, lambda i, x: jnp.sin(x) @ x, x)

    compiled = jax.jit(f).lower(jax.ShapeDtypeStruct((16, 16), jnp.float32)).compile()
    text = compiled.as_text()
    assert text is not None
    module = hlo.parse(text)
    entry = module.computations[module.entry]
    assert [entry.instructions[name].shape[:10] for name in entry.parameters()] == [
        "f32[16,16]"
    ]
    for computation in module.computations.values():
        assert computation.root in computation.instructions
        for instruction in computation.instructions.values():
            assert set(instruction.operands) <= set(computation.instructions)
            if instruction.called:
                assert instruction.called in module.computations


def test_no_program():
    with pytest.raises(ValueError, match="no entry"):
        hlo.parse("HloModule empty")
