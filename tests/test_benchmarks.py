"""What benchmarks count and choose; what they time is not tested."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from benchmarks import compare, ops, roofline

ROOT = Path(__file__).parents[1]
# Of the requirements, what a machine may lack that only has jax, flax, optax, einops
# and ml_collections.
ABSENT = ("clu", "tensorflow", "tensorflow_datasets", "array_record", "PIL", "cv2")
ABSENT += ("matplotlib", "safetensors", "filelock")


NAMES = ("compare", "compile_time", "inference", "memory", "meshes", "ops", "roofline")
NAMES += ("train_step",)


@pytest.mark.parametrize("name", NAMES)
def test_needs_no_more_than_the_libraries_of_the_network(name):
    block = f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))"
    code = f"{block}; import benchmarks.{name}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_every_operator_equals_its_plain_formulation_in_values():
    for case in ops.cases("T", batch=1, side=64):
        keys = jax.random.split(jax.random.key(0), len(case.shapes))
        arguments = [
            jax.random.normal(key, shape)
            for key, shape in zip(keys, case.shapes, strict=True)
        ]
        operator, plain = (
            jax.jit(function)(*arguments) for function in (case.operator, case.plain)
        )
        if case.is_differentiable:
            assert jnp.allclose(operator, plain, atol=1e-3), case.name
        else:  # classes: at a tie of rounding either is right
            assert jnp.mean(operator == plain) > 0.999, case.name


def test_products_are_counted_where_they_are_and_as_often_as_they_run():
    def loss(kernel, matrix, x):
        with jax.named_scope("stem"):
            x = lax.conv_general_dilated(
                x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        with jax.named_scope("stage3_blocks"):
            x, _ = lax.scan(lambda x, _: (jnp.tanh(x) @ matrix, None), x, length=5)
        return jnp.sum(x**2)

    arguments = (jnp.ones((3, 3, 4, 6)), jnp.ones((6, 6)), jnp.ones((2, 8, 8, 4)))
    traced = jax.make_jaxpr(jax.value_and_grad(loss, argnums=(0, 1)))(*arguments)
    flops = dict.fromkeys(roofline.PARTS, 0)
    for part, equation, times in roofline.products(traced.jaxpr):
        flops[part] += times * roofline.product_flops(equation)
    pixels = 2 * 4 * 4
    # The convolution forward and of its kernel; the products, of both factors, too.
    assert flops["stage 1"] == 2 * (2 * pixels * 6 * 3 * 3 * 4)
    assert flops["stage 3"] == 3 * 5 * (2 * pixels * 6 * 6)
    assert flops["stage 2"] == flops["stage 4"] == flops["decoder"] == 0


FAKE = """
import json, sys
batch = int(sys.argv[sys.argv.index("--batch") + 1])
if batch > 8:
    sys.exit("RESOURCE_EXHAUSTED: Out of memory allocating 1 byte")
if batch == 3:
    sys.exit("no such thing")
print(json.dumps({"median_s": {"jax": 0.5}, "peak_bytes": {"jax": 2**30}}))
"""


def test_compares_the_largest_batch_that_fits():
    command = [sys.executable, "-c", FAKE]
    found = compare.largest(command, [4, 16, 8])
    assert found == compare.Result(batch=8, seconds=0.5, peak_bytes=2**30)
    assert compare.largest(command, [16, 32]) is None
    with pytest.raises(RuntimeError, match="no such thing"):
        compare.largest(command, [3])


def test_row_compares_this_project_with_its_rival():
    ours = compare.Result(8, 0.5, 2**30)
    rival = compare.parse(16, json.loads('{"median_s": 2, "peak_bytes": 4294967296}'))
    assert compare.row(ours, ours) == "8 | 16.00 |  | 1.00 | "
    assert compare.row(rival, ours) == "16 | 8.00 | 2.00 × | 4.00 | 0.25 ×"
    assert compare.row(None, ours) == "does not fit | | | |"
