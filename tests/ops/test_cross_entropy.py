"""Cross-entropy that enlarges its logits itself, against enlarging them first.

By phases, as for CPUs and for TPUs, and by kernels for GPUs and TPUs, interpreted.
"""

import re
from functools import partial

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segnext_jax.ops.cross_entropy import is_whole_factor
from segnext_jax.ops.mosaic.cross_entropy import is_supported
from segnext_jax.ops.resize import resize_bilinear
from segnext_jax.ops.triton.cross_entropy import supported
from segnext_jax.training.losses import cross_entropy, enlarged_cross_entropy

each = pytest.mark.parametrize(
    "implementation", ["phases", "aligned", "triton", "mosaic"]
)


def draw(b=2, h=3, w=16, c=5, factor=8):
    """Logits, and labels of which some are to be ignored."""
    rng = np.random.default_rng(0)
    logits = 4 * rng.standard_normal((b, h, w, c)).astype(np.float32)
    label = rng.integers(0, c + 1, (b, factor * h, factor * w))
    return logits, np.where(label == c, 255, label).astype(np.int32)


def plain(logits, label, **options):
    return cross_entropy(resize_bilinear(logits, label.shape[1:]), label, **options)


def with_gradient(function, logits, label, **options):
    return jax.jit(
        jax.value_and_grad(partial(function, **options), has_aux=True),
    )(logits, label)


def assert_same(actual, expected):
    (total, weight), grad = actual
    (expected_total, expected_weight), expected_grad = expected
    np.testing.assert_allclose(total, expected_total, rtol=1e-5)
    np.testing.assert_allclose(weight, expected_weight, rtol=1e-6)
    near = 1e-5 * abs(expected_grad).max()
    np.testing.assert_allclose(grad, expected_grad, rtol=0, atol=near)


@pytest.mark.parametrize(
    ("h", "w", "c", "factor"),
    [(1, 1, 2, 8), (3, 9, 5, 8), (2, 7, 19, 4), (4, 8, 3, 2), (1, 2, 3, 16)],
)
@pytest.mark.parametrize("implementation", ["phases", "aligned", "triton"])
def test_equals_cross_entropy_of_enlarged_logits(h, w, c, factor, implementation):
    arrays = draw(h=h, w=w, c=c, factor=factor)
    enlarged = partial(enlarged_cross_entropy, implementation=implementation)
    assert_same(
        with_gradient(enlarged, *arrays, normalizer="valid"),
        with_gradient(plain, *arrays, normalizer="valid"),
    )


@pytest.mark.parametrize(
    ("h", "w", "c", "columns"),
    # One row; several registers; and parts of 128 and of 512 columns.
    [(1, 16, 2, 8), (4, 64, 19, 8), (2, 48, 5, 8), (2, 128, 3, 8), (2, 64, 3, 16)],
)
def test_rows_of_registers_of_a_tpu(h, w, c, columns):
    """Eight for each of the logits, and any whole number of columns."""
    logits, _ = draw(h=h, w=w, c=c)
    label = np.random.default_rng(1).integers(-1, c, (2, 8 * h, columns * w))
    label = np.where(label < 0, 255, label).astype(np.int32)
    kernel = partial(enlarged_cross_entropy, implementation="mosaic")
    assert_same(
        with_gradient(kernel, logits, label, normalizer="valid"),
        with_gradient(plain, logits, label, normalizer="valid"),
    )


@pytest.mark.parametrize("normalizer", ["valid", "all"])
@pytest.mark.parametrize("class_weights", [(), (1.0, 2.0, 0.0, 0.5, 3.0)])
@each
def test_normalizers_and_class_weights(normalizer, class_weights, implementation):
    options = dict(normalizer=normalizer, class_weights=class_weights)
    enlarged = partial(enlarged_cross_entropy, implementation=implementation)
    assert_same(
        with_gradient(enlarged, *draw(), **options),
        with_gradient(plain, *draw(), **options),
    )


@each
def test_large_logits_stay_finite(implementation):
    logits, label = draw()
    enlarged = partial(enlarged_cross_entropy, implementation=implementation)
    (total, _), grad = with_gradient(enlarged, 1000 * logits, label, normalizer="valid")
    (expected, _), _ = with_gradient(plain, 1000 * logits, label, normalizer="valid")
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert np.isfinite(grad).all()


@each
def test_nothing_labelled(implementation):
    logits, label = draw()
    enlarged = partial(enlarged_cross_entropy, implementation=implementation)
    (total, weight), grad = with_gradient(
        enlarged, logits, np.full_like(label, 255), normalizer="valid"
    )
    assert total == weight == 0
    assert not grad.any()


@each
def test_devices_keep_their_examples(implementation):
    arrays = draw(b=8)
    mesh = Mesh(np.array(jax.devices()[:8]), ("data",))
    placed = jax.device_put(arrays, NamedSharding(mesh, P("data")))
    loss = partial(
        enlarged_cross_entropy, normalizer="valid", implementation=implementation
    )

    @jax.jit
    def function(logits, label):
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return jax.value_and_grad(loss, has_aux=True)(logits, label)

    assert_same(function(*placed), with_gradient(plain, *arrays, normalizer="valid"))
    program = function.lower(*placed).compile().as_text()
    assert not re.search(r"all-gather|collective-permute|all-to-all", program)


@pytest.mark.parametrize("implementation", ["phases", "triton"])
def test_says_what_fits(implementation):
    of_phases = implementation == "phases"
    fits = is_whole_factor if of_phases else supported
    assert fits((2, 3, 5, 19), (2, 24, 40))
    assert not fits((2, 3, 5, 19), (2, 24, 39))
    # The kernel has one factor, a power of two.
    assert fits((2, 3, 5, 19), (2, 24, 20)) == of_phases
    assert fits((2, 3, 5, 19), (2, 9, 15)) == of_phases
    assert fits((2, 3, 5, 19), (2, 3, 5)) == of_phases


@pytest.mark.parametrize(
    ("shape", "label_shape", "fits"),
    [
        ((8, 128, 128, 19), (8, 1024, 1024), True),
        ((8, 64, 64, 150), (8, 512, 512), True),
        ((8, 128, 256, 19), (8, 1024, 2048), True),
        ((8, 128, 256, 150), (8, 1024, 2048), False),  # more than VMEM
        ((8, 64, 72, 19), (8, 512, 576), False),  # half a register
        ((8, 256, 128, 19), (8, 1024, 1024), False),
        ((4, 128, 128, 19), (4, 1024, 1024), False),  # half an image for a device
    ],
)
def test_says_what_fits_a_tpu(shape, label_shape, fits):
    mesh = jax.make_mesh((8, 1), ("data", "spatial"))
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        assert is_supported(shape, label_shape) is fits
    assert not is_supported(shape, label_shape), "on eight devices, and nobody says how"


def test_mosaic_takes_the_kernel():
    """As far as the compiler of a TPU is not needed."""
    arrays = draw()
    loss = partial(enlarged_cross_entropy, normalizer="valid", implementation="mosaic")
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    text = step.trace(*arrays).lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("@tpu_custom_call") == 1


@pytest.mark.parametrize("implementation", ["phases", "aligned"])
@pytest.mark.parametrize("size", [(9, 15), (6, 20), (3, 5)])
def test_phases_of_any_whole_factor(size, implementation):
    logits, _ = draw(h=3, w=5)
    label = np.random.default_rng(1).integers(0, 5, (2, *size)).astype(np.int32)
    enlarged = partial(enlarged_cross_entropy, implementation=implementation)
    assert_same(
        with_gradient(enlarged, logits, label, normalizer="valid"),
        with_gradient(plain, logits, label, normalizer="valid"),
    )
