"""Each loss and its gradient against both peers' own; tools/golden/losses_*.py."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.training.losses import Ohem, cross_entropy, dice, focal, lovasz

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def golden():
    """Arrays by peer and name."""
    return {
        peer: dict(np.load(GOLDEN / f"losses_{peer}.npz"))
        for peer in ("torch", "paddle")
    }


def assert_equals(golden, case, loss, label="label", logits="logits", scale=1.0):
    """`loss` gives `scale` times the peer's loss and gradient."""

    def mean_loss(logits):
        total, weight = loss(logits, jnp.asarray(golden[label], jnp.int32))
        return total / weight

    value_and_grad = jax.jit(jax.value_and_grad(mean_loss))
    value, grad = value_and_grad(jnp.asarray(golden[logits]))
    expected = scale * golden[f"{case}/grad"]
    np.testing.assert_allclose(value, scale * golden[f"{case}/loss"], rtol=1e-6)
    atol = 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=atol)


@pytest.fixture
def class_weights(golden):
    """Both peers' goldens have the same."""
    return tuple(golden["torch"]["class_weights"])


@pytest.mark.parametrize("normalizer", ["valid", "all"])
def test_cross_entropy_of_mmseg(golden, normalizer):
    loss = partial(cross_entropy, normalizer=normalizer)
    assert_equals(golden["torch"], f"cross_entropy_{normalizer}", loss)


def test_weighted_cross_entropy_of_mmseg(golden, class_weights):
    """Divided by all pixels; and by the weights, where 1.2.2 can."""
    golden = golden["torch"]
    loss = partial(cross_entropy, class_weights=class_weights)
    case = "cross_entropy_weighted"
    assert_equals(golden, f"{case}_all", partial(loss, normalizer="all"))
    by_weights = partial(loss, normalizer="valid")
    assert_equals(golden, f"{case}_full", by_weights, label="label_full")


def test_cross_entropy_of_paddle(golden, class_weights):
    loss = partial(cross_entropy, normalizer="valid")
    weighted = partial(loss, class_weights=class_weights)
    assert_equals(golden["paddle"], "cross_entropy", loss)
    assert_equals(golden["paddle"], "cross_entropy_weighted", weighted)


@pytest.mark.parametrize("normalizer", ["valid", "all"])
@pytest.mark.parametrize(("case", "threshold"), [("rank", 0.05), ("threshold", 0.7)])
def test_ohem_of_mmseg(golden, normalizer, case, threshold):
    golden = golden["torch"]
    ohem = Ohem("mmseg", threshold, int(golden["ohem_min_kept"]))
    loss = partial(cross_entropy, normalizer=normalizer, ohem=ohem)
    assert_equals(golden, f"ohem_{case}_{normalizer}", loss)


@pytest.mark.parametrize(
    ("case", "threshold"), [("rank", 0.05), ("threshold", 0.7), ("few", 0.05)]
)
def test_ohem_of_paddle(golden, case, threshold):
    golden = golden["paddle"]
    min_kept = golden["label"].size if case == "few" else int(golden["ohem_min_kept"])
    ohem = Ohem("paddle", threshold, min_kept)
    loss = partial(cross_entropy, normalizer="valid", ohem=ohem)
    # Paddle adds 1e-5 to the share of pixels that it divides by.
    kept = np.any(golden[f"ohem_{case}/grad"], axis=-1).mean()
    assert_equals(golden, f"ohem_{case}", loss, scale=(kept + 1e-5) / kept)


def test_focal_of_mmseg(golden, class_weights):
    loss = partial(focal, normalizer="all", gamma=2.0, alpha=0.5)
    other = partial(loss, gamma=0.5, alpha=0.25)
    weighted = partial(loss, class_weights=class_weights)
    assert_equals(golden["torch"], "focal", loss)
    assert_equals(golden["torch"], "focal_other", other)
    assert_equals(golden["torch"], "focal_weighted", weighted)


def test_focal_of_paddle(golden):
    loss = partial(focal, normalizer="valid", gamma=2.0, alpha=0.25)
    names = dict(label="label_two", logits="logits_two")
    assert_equals(golden["paddle"], "focal", loss, **names)


def test_dice_of_paddle(golden):
    assert_equals(golden["paddle"], "dice", dice)


@pytest.mark.parametrize("peer", ["torch", "paddle"])
def test_lovasz_of_both(golden, peer):
    assert_equals(golden[peer], "lovasz", lovasz)
