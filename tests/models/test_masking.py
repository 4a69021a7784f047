"""Padding that is masked has no influence: logits are those of the image alone."""

from functools import partial

import golden_fill
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from segnext_jax.models import segnext
from segnext_jax.weights import convert
from segnext_jax.weights.naming import MMSEG

SHAPE = (96, 112)
# The last two have fewer pixels than the longest strip, and a stage, see.
SIZES = [(96, 112), (75, 100), (41, 112), (20, 33), (5, 7)]
TINY = segnext.Variant((8, 16, 24, 32), (1, 1, 1, 1), 32, 4)


@pytest.fixture(scope="module")
def make_network():
    """Variant → model and variables, of golden_fill's rule."""

    def make(variant):
        config = common.base().model
        config.variant, config.dtype, config.depthwise = variant, "float32", "xla"
        model = segnext.make_model(config, golden_fill.NUM_CLASSES)
        shapes = convert.shapes(model)
        names = convert.foreign_shapes(shapes, MMSEG)
        tensors = {name: golden_fill.fill(name, names[name]) for name in names}
        adopted = convert.adopt(tensors, shapes, MMSEG, origin="the rule")
        return model, adopted.variables

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(segnext.VARIANTS, "tiny", TINY)
        yield make


@pytest.fixture(scope="module")
def tiny(make_network):
    return make_network("tiny")


def padded(image, shape=SHAPE):
    """The image at the top left, with rubbish around it."""
    rng = np.random.default_rng(1)
    array = rng.normal(scale=5, size=(1, *shape, 3)).astype(np.float32)
    array[:, : image.shape[1], : image.shape[2]] = image
    return jnp.asarray(array)


def assert_close(actual, expected):
    """Within 1e-5 of the largest magnitude."""
    atol = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def assert_equal_to_images_alone(model, variables, sizes, masked):
    for size in sizes:
        image = golden_fill.image(1, *size)
        expected = jax.jit(partial(model.apply, train=False))(variables, image)
        true_size = jnp.array([size], jnp.int32)
        logits = masked(variables, padded(image), size=true_size)
        h, w = expected.shape[1:3]
        assert segnext.logits_size(true_size).tolist() == [[h, w]]
        assert_close(logits[:, :h, :w], expected)


def test_tiny_network_at_many_sizes(tiny):
    model, variables = tiny
    masked = jax.jit(partial(model.apply, train=False))
    assert_equal_to_images_alone(model, variables, SIZES, masked)


def test_segnext_t(make_network):
    model, variables = make_network("T")
    masked = jax.jit(partial(model.apply, train=False))
    assert_equal_to_images_alone(model, variables, [(43, 70)], masked)


def test_images_of_a_batch_have_sizes_of_their_own(tiny):
    model, variables = tiny
    masked = jax.jit(partial(model.apply, train=False))
    images = [padded(golden_fill.image(1, *size)) for size in SIZES[1:3]]
    sizes = jnp.array(SIZES[1:3], jnp.int32)
    together = masked(variables, jnp.concatenate(images), size=sizes)
    for i, image in enumerate(images):
        alone = masked(variables, image, size=sizes[i : i + 1])
        assert_close(together[i : i + 1], alone)


def test_without_masks_padding_shows(tiny):
    """Even zeros: biases make something of them, and moments count them."""
    model, variables = tiny
    image = golden_fill.image(1, 75, 100)
    apply = jax.jit(partial(model.apply, train=False))
    zeros = jnp.zeros((1, *SHAPE, 3)).at[:, :75, :100].set(image)
    expected = apply(variables, image)
    error = np.abs(apply(variables, zeros)[:, :10, :13] - expected).max()
    assert error > 1e-2 * np.abs(expected).max()


@pytest.mark.parametrize("is_masked", [False, True])
def test_bases_are_drawn_by_the_key_of_an_evaluation(tiny, is_masked):
    model, variables = tiny
    image = padded(golden_fill.image(1, 75, 100))
    size = jnp.array([[75, 100]], jnp.int32) if is_masked else None

    @jax.jit
    def apply(seed):
        rngs = {"nmf": jax.random.key(seed)}
        return model.apply(variables, image, train=False, size=size, rngs=rngs)

    usual = jax.jit(partial(model.apply, train=False))(variables, image, size=size)
    np.testing.assert_array_equal(apply(0), apply(0))
    assert abs(apply(0) - apply(1)).max() > 1e-4
    assert abs(apply(0) - usual).max() > 1e-4
