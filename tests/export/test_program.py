"""Exported programs compute what the network does, wherever and on whatever size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_segnext import NUM_CLASSES, draw_variables, make_tiny

from segnext_jax.export import onnx_model, stablehlo
from segnext_jax.export.program import make_native, make_program


@pytest.fixture(scope="module")
def tiny():
    model = make_tiny(jnp.bfloat16)  # exports compute in float32 all the same
    return model, draw_variables(model)


@pytest.fixture(scope="module")
def native(tiny):
    return make_native(*tiny)


@pytest.fixture(scope="module")
def exported(tiny):
    return stablehlo.export_program(make_program(*tiny, "logits"), None)


def draw_images(count, size):
    rng = np.random.default_rng(2)
    return rng.integers(0, 256, (count, *size, 3), np.uint8)


def assert_same(actual, expected):
    assert actual.dtype == np.float32
    expected = np.asarray(expected)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize(("count", "size"), [(1, (64, 96)), (2, (41, 70))])
def test_any_number_of_any_size(count, size, exported, native):
    images = draw_images(count, size)
    logits = stablehlo.load(exported.serialize())(images)
    assert logits.shape == (count, *size, NUM_CLASSES)
    for image, own in zip(images, logits, strict=True):
        assert_same(own[None], native(image[None]))


def test_one_artifact_has_what_each_platform_is_fast_with(exported):
    assert exported.platforms == stablehlo.PLATFORMS == ("cpu", "cuda", "tpu")
    text = exported.mlir_module()
    assert "feature_group_count = 8" in text  # the grouped convolution, for CUDA
    assert "stablehlo.case" in text


def test_bases_are_constants(exported):
    text = exported.mlir_module()
    assert "threefry" not in text and "shift_right_logical" not in text


def test_fixed_size_refuses_another(tiny):
    exported = stablehlo.export_program(make_program(*tiny, "classes"), (32, 64))
    assert exported.out_avals[0].shape[1:] == (32, 64)
    assert exported.out_avals[0].dtype == np.uint8
    with pytest.raises(ValueError, match="32"):
        exported.call(draw_images(1, (32, 32)))


def test_results_follow_from_logits(tiny, native):
    image = draw_images(1, (32, 64))
    logits = native(image)
    classes, probabilities = (
        np.asarray(jax.jit(make_program(*tiny, result, depthwise="xla"))(image))
        for result in ("classes", "probabilities")
    )
    np.testing.assert_array_equal(classes, jnp.argmax(logits, -1))
    assert_same(probabilities, jax.nn.softmax(logits))


def test_older_stablehlo_for_older_readers(exported):
    assert b"StableHLO_v1.13.0" not in exported.mlir_module_serialized
    assert b"StableHLO_v1.13.0" in stablehlo.for_older_readers(exported, "1.13.0")


def test_onnx_takes_any_number_of_images(tiny, native):
    program = make_program(*tiny, "logits", depthwise="xla")
    run = onnx_model.load(onnx_model.convert(program, (32, 64), "logits"))
    images = draw_images(2, (32, 64))
    logits = run(images)
    assert logits.shape == (2, 32, 64, NUM_CLASSES)
    for image, own in zip(images, logits, strict=True):
        assert_same(own[None], native(image[None]))
