"""NMF: the authors' numbers, and what a factorisation must hold."""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from segnext_jax.ops import nmf_passes
from segnext_jax.ops.nmf import draw_bases, factorize, nmf

GOLDEN = Path(__file__).parents[1] / "models" / "golden" / "nmf.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.uniform(0.1, 1, (4, 10, 6)), jnp.float32)


def unit_length(bases):
    return bases / np.linalg.norm(bases, axis=1, keepdims=True)


def flatten(x):
    return x.reshape(x.shape[0], -1, x.shape[-1])


@pytest.mark.parametrize(("mode", "steps"), [("train", 6), ("eval", 7)])
def test_equals_mmsegmentation(golden, mode, steps):
    bases = unit_length(golden["bases"])
    output = factorize(flatten(golden["features"]), bases, steps=steps)
    np.testing.assert_allclose(output, flatten(golden[f"{mode}/output"]), atol=1e-5)


def test_unrolled_gradient_equals_mmsegmentation(golden):
    bases = unit_length(golden["bases"])

    def product(features):
        return jnp.sum(
            factorize(features, bases, steps=6) * flatten(golden["cotangent"])
        )

    grad = jax.grad(product)(flatten(golden["features"]))
    expected = flatten(golden["train/grad"])
    np.testing.assert_allclose(grad, expected, rtol=0, atol=2e-5 * abs(expected).max())


def test_bases_are_non_negative_and_of_unit_length():
    bases = draw_bases(jax.random.key(0), 32, 8)
    assert bases.shape == (32, 8)
    assert bases.dtype == jnp.float32
    assert bases.min() >= 0
    np.testing.assert_allclose(np.linalg.norm(bases, axis=0), 1, rtol=1e-6)
    assert not np.array_equal(bases, draw_bases(jax.random.key(1), 32, 8))


def test_result_is_non_negative_and_of_low_rank(features):
    output = nmf(features, jax.random.key(0), 2, steps=6)
    assert output.min() >= 0
    singular = np.linalg.svd(np.asarray(output), compute_uv=False)
    assert (singular[:, 1] > 1e-3 * singular[:, 0]).all()
    assert (singular[:, 2:] < 1e-6 * singular[:, :1]).all()


def test_features_that_are_zero_stay_zero():
    """ReLU makes such pixels and channels; 0 / 0 would be NaN."""
    features = jnp.ones((1, 5, 4)).at[:, 2].set(0).at[:, :, 1].set(0)
    output, grad = jax.value_and_grad(
        lambda x: jnp.sum(nmf(x, jax.random.key(0), 2, steps=6))
    )(features)
    assert np.isfinite(output)
    assert np.isfinite(grad).all()
    output = nmf(features, jax.random.key(0), 2, steps=6)
    np.testing.assert_allclose(output[:, 2], 0, atol=1e-6)
    np.testing.assert_allclose(output[:, :, 1], 0, atol=1e-6)


def test_every_step_reduces_the_error(features):
    errors = [
        float(jnp.sum((features - nmf(features, jax.random.key(0), 3, steps=n)) ** 2))
        for n in range(8)
    ]
    assert all(after < before for before, after in itertools.pairwise(errors))


def test_recovers_a_matrix_of_its_rank():
    rng = np.random.default_rng(0)
    coef, bases = rng.uniform(0, 1, (1, 30, 2)), rng.uniform(0, 1, (1, 8, 2))
    features = jnp.asarray(np.einsum("bnr,bdr->bnd", coef, bases), jnp.float32)

    def relative_error(rank):
        output = nmf(features, jax.random.key(0), rank, steps=200)
        return jnp.linalg.norm(output - features) / jnp.linalg.norm(features)

    assert relative_error(1) > 0.1
    assert relative_error(2) < 0.03


def test_shared_key_gives_an_example_the_same_result_in_any_batch(features):
    key = jax.random.key(0)
    together = nmf(features, key, 3, steps=7)
    for i in range(len(features)):
        alone = nmf(features[i : i + 1], key, 3, steps=7)
        np.testing.assert_allclose(together[i : i + 1], alone, rtol=0, atol=1e-6)


def test_own_keys_make_examples_independent(features):
    keys = jax.random.split(jax.random.key(0), 4)
    together = nmf(features, keys, 3, steps=6)
    for i in range(len(features)):
        alone = nmf(features[i : i + 1], keys[i], 3, steps=6)
        np.testing.assert_allclose(together[i : i + 1], alone, rtol=0, atol=1e-6)
    other = nmf(features, keys.at[1].set(jax.random.key(9)), 3, steps=6)
    np.testing.assert_array_equal(
        other[jnp.array([0, 2, 3])], together[jnp.array([0, 2, 3])]
    )
    assert abs(other[1] - together[1]).max() > 1e-3


def plain_one_step(features, bases, steps):
    """One-step gradient as the Hamburger paper has it: the loop under stop_gradient."""
    bases, coef = jax.lax.stop_gradient(plain_steps(features, bases, steps))
    return plain_coef(features, bases, coef) @ bases.T


def plain_steps(features, bases, steps):
    """Algorithm 2 for one example: features [n d], bases [d r]."""
    coef = jax.nn.softmax(features @ bases, axis=-1)
    for _ in range(steps):
        coef = plain_coef(features, bases, coef)
        bases = bases * (features.T @ coef) / (bases @ (coef.T @ coef) + 1e-6)
    return bases, coef


def plain_coef(features, bases, coef):
    return coef * (features @ bases) / (coef @ (bases.T @ bases) + 1e-6)


def test_one_step_gradient_is_that_of_the_last_update(features):
    key = jax.random.key(0)
    weight = jnp.arange(60.0).reshape(10, 6) / 60

    def gradient(function):
        return jax.grad(lambda x: jnp.sum(function(x) * weight))(features[0])

    def by_nmf(mode):
        return gradient(lambda x: nmf(x[None], key, 3, steps=6, gradient=mode)[0])

    bases = draw_bases(key, 6, 3)
    plain = gradient(lambda x: plain_one_step(x, bases, 6))
    np.testing.assert_allclose(by_nmf("one_step"), plain, rtol=0, atol=1e-5)
    assert abs(by_nmf("unrolled") - plain).max() > 1e-2


def test_gradient_mode_does_not_change_the_value(features):
    values = [
        nmf(features, jax.random.key(0), 3, steps=6, gradient=mode)
        for mode in ("unrolled", "one_step")
    ]
    np.testing.assert_array_equal(*values)


def test_unrolled_gradient_equals_finite_differences(features):
    def one_example(x):
        return nmf(x, jax.random.key(0), 2, steps=3)

    check_grads(
        jax.jit(one_example),
        (features[:1],),
        order=1,
        modes=["rev"],
        atol=1e-2,
        rtol=1e-2,
        eps=1e-2,
    )


@pytest.mark.parametrize("steps", [0, 1, 6])
def test_unrolled_gradient_equals_autodiff(features, steps):
    """That of the bases, too, which training never asks for."""
    bases = draw_bases(jax.random.key(0), 6, 3)
    weight = jnp.cos(jnp.arange(60.0)).reshape(10, 6)

    def plain(x, bases):
        last_bases, coef = plain_steps(x, bases, steps)
        return jnp.sum(plain_coef(x, last_bases, coef) @ last_bases.T * weight)

    def by_hand(x, bases):
        return jnp.sum(factorize(x[None], bases[None], steps=steps)[0] * weight)

    grads = jax.grad(by_hand, argnums=(0, 1))(features[0], bases)
    expected = jax.grad(plain, argnums=(0, 1))(features[0], bases)
    for grad, value in zip(grads, expected, strict=True):
        np.testing.assert_allclose(grad, value, rtol=0, atol=1e-5 * abs(value).max())


def test_bfloat16_is_computed_in_float32(features):
    key, features = jax.random.key(0), features.astype(jnp.bfloat16)
    output = nmf(features, key, 3, steps=6)
    expected = nmf(features.astype(jnp.float32), key, 3, steps=6)
    assert output.dtype == jnp.bfloat16
    np.testing.assert_array_equal(
        output.astype(jnp.float32), expected.astype(jnp.bfloat16).astype(jnp.float32)
    )


def multiply_in_three_passes(_, equation, *operands):
    """A TPU's products of float32 with Precision.HIGH: of two bfloat16 parts each."""

    def split(x):
        high = x.astype(jnp.bfloat16).astype(jnp.float32)
        return high, (x - high).astype(jnp.bfloat16).astype(jnp.float32)

    (a, a_rest), (b, b_rest) = (split(x.astype(jnp.float32)) for x in operands)
    terms = (a, b), (a, b_rest), (a_rest, b)
    return sum(jnp.einsum(equation, *term) for term in terms)


def test_three_passes_err_less_than_bfloat16_rounds(monkeypatch):
    """By a factor of 100, after six steps and in their gradient."""
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((1, 1024, 4)) @ rng.standard_normal((4, 64))
    features = np.maximum(mixed + 0.5 * rng.standard_normal(mixed.shape), 0)
    features = jnp.asarray(features, jnp.bfloat16).astype(jnp.float32)
    weight = jnp.asarray(rng.standard_normal(mixed.shape), jnp.float32)

    def run():
        y, vjp = jax.vjp(
            lambda x: nmf(x, jax.random.key(0), 16, steps=6, implementation="xla"),
            features,
        )
        return y, *vjp(weight)

    exact = run()
    monkeypatch.setattr(nmf_passes, "_dot", multiply_in_three_passes)
    for actual, expected in zip(run(), exact, strict=True):
        rounded = expected.astype(jnp.bfloat16).astype(jnp.float32)
        error, rounding = (jnp.linalg.norm(x - expected) for x in (actual, rounded))
        assert 0 < error < rounding / 100


def test_unknown_gradient_is_named(features):
    with pytest.raises(ValueError, match=r"'none'.*\"unrolled\" or \"one_step\""):
        nmf(features, jax.random.key(0), 3, steps=6, gradient="none")
