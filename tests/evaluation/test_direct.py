"""The class map of one whole view, for which no logits at full size are made."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.evaluation import inference
from segnext_jax.evaluation.protocol import Protocol

NUM_CLASSES = 5
VARIABLES = np.random.default_rng(0).standard_normal((3, NUM_CLASSES))
IMAGE = np.random.default_rng(1).integers(0, 256, (1, 32, 48, 3), np.uint8)


def apply(variables, image, *, train, size, rngs):
    """Logits at stride 8 that depend on the image and on the key."""
    logits = image[:, ::8, ::8] @ jnp.asarray(variables, jnp.float32)
    return logits if rngs is None else logits + jax.random.normal(rngs["nmf"], (1,))


MODEL = SimpleNamespace(apply=apply)


def forbid(*args):
    raise AssertionError("not for this view")


@pytest.mark.parametrize("key", [None, jax.random.key(0)])
def test_equals_the_argmax_of_the_scores(monkeypatch, key):
    arguments: Any = (MODEL, VARIABLES, [IMAGE], (32, 48), Protocol())
    scores = np.asarray(inference.score_image(*arguments, key=key))
    monkeypatch.setattr(inference, "score_image", forbid)
    pred = inference.predict_image(*arguments, key=key)
    assert pred.dtype == jnp.uint8
    np.testing.assert_array_equal(pred, scores.argmax(axis=-1))
    assert len(np.unique(pred)) > 2


@pytest.mark.parametrize(
    ("views", "shape", "changes"),
    [
        ([IMAGE, IMAGE], (32, 48), {}),
        ([IMAGE], (30, 45), {}),
        ([IMAGE], (32, 48), {"flip": True}),
        ([IMAGE], (32, 48), {"pad_divisor": 32}),
    ],
)
def test_others_go_by_their_scores(monkeypatch, views, shape, changes):
    monkeypatch.setattr(inference, "argmax_enlarged", forbid)
    protocol = Protocol()._replace(**changes)
    arguments: Any = (MODEL, VARIABLES, views, shape, protocol)
    scores = np.asarray(inference.score_image(*arguments))
    pred = inference.predict_image(*arguments)
    np.testing.assert_array_equal(pred, scores.argmax(axis=-1))
