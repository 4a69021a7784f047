"""Inference and scores against both peers' own evaluation (tools/golden)."""

from pathlib import Path

import golden_fill
import golden_model
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from data.evaluation import make_views
from segnext_jax.evaluation.inference import score_image
from segnext_jax.evaluation.metrics import Confusion, count_pixels
from segnext_jax.evaluation.protocol import Protocol
from segnext_jax.ops import nmf
from segnext_jax.weights import convert, files
from segnext_jax.weights.naming import MMSEG

TESTS = Path(__file__).parents[1]
SCORE_STEP = 7  # of tools/golden/evaluation.py
FIELDS = [
    *("mode", "crop_size", "stride", "scales", "flip"),
    *("resize_to", "size_divisor", "pad_divisor"),
]
HOW = {
    "mmseg": {"rescale": "uint8", "average": "probabilities"},
    "paddleseg": {"rescale": "float32", "average": "logits"},
}
# peer, name, and what is added at bottom and right for a bucket
CASES = [
    ("mmseg", "whole", 0),
    ("mmseg", "slide", 0),
    ("mmseg", "slide_low", 0),
    ("mmseg", "padded", 0),
    ("mmseg", "stretched", 0),
    ("mmseg", "slide_scales", 11),
    ("paddleseg", "whole", 0),
    ("paddleseg", "slide", 0),
    ("paddleseg", "scales", 0),
]


@pytest.fixture(scope="module")
def model():
    return golden_model.tiny_model()


@pytest.fixture(scope="module")
def variables(model):
    shapes = convert.shapes(model)
    names = convert.foreign_shapes(shapes, MMSEG)
    tensors = {name: golden_fill.fill(name, shape) for name, shape in names.items()}
    pdparams = TESTS / "weights" / "golden" / "tiny.pdparams"
    return {
        "mmseg": convert.adopt(tensors, shapes, MMSEG, origin="the rule").variables,
        "paddleseg": files.read(str(pdparams), shapes).variables,
    }


@pytest.fixture(scope="module")
def goldens():
    goldens = {}
    for peer in HOW:
        with np.load(TESTS / "evaluation" / "golden" / f"{peer}.npz") as file:
            goldens[peer] = dict(file)
    return goldens


def read_case(golden, peer, name):
    """The image and config.eval of a case."""
    config = common.base().eval
    config.update(HOW[peer])
    for field in FIELDS:
        value = golden[f"{name}/{field}"].tolist()
        config[field] = tuple(value) if isinstance(value, list) else value
    h, w = golden[f"{name}/image_size"]
    return golden["image"][:h, :w], config


@pytest.mark.parametrize(("peer", "name", "padding"), CASES)
def test_scores_and_classes_equal_the_peers(
    peer, name, padding, model, variables, goldens, monkeypatch
):
    monkeypatch.setattr(nmf, "draw_bases", golden_model.draw_bases)
    golden = goldens[peer]
    image, config = read_case(golden, peer, name)
    views = make_views(image, config)
    sizes = {}
    if padding:
        sizes["size"] = jnp.array([image.shape[:2]])
        sizes["view_sizes"] = jnp.array([[view.shape[:2] for view in views]])
    arrays = [np.pad(view, ((0, padding), (0, padding), (0, 0))) for view in views]

    @jax.jit
    def score(variables, views, sizes):
        shape = tuple(side + padding for side in image.shape[:2])
        protocol = Protocol.from_config(config)
        return score_image(model, variables, views, shape, protocol, **sizes)

    h, w = image.shape[:2]
    total = score(variables[peer], [view[None] for view in arrays], sizes)
    scores = np.asarray(total[0, :h, :w]) / (len(views) * (1 + config.flip))
    expected = golden[f"{name}/scores"]
    np.testing.assert_allclose(
        scores[::SCORE_STEP, ::SCORE_STEP],
        expected,
        rtol=0,
        atol=2e-5 * np.abs(expected).max(),
    )
    # At most one pixel in 10,000: two classes may be as good, up to rounding.
    assert np.mean(scores.argmax(axis=-1) == golden[f"{name}/pred"]) >= 0.9999


@pytest.fixture
def confusion(goldens):
    golden = goldens["mmseg"]
    label, pred = (jnp.asarray(golden[f"metrics/{n}"]) for n in ("label", "pred"))
    counts = count_pixels(label, pred, jnp.ones(len(label), bool), num_classes=8)
    return Confusion(np.asarray(counts, np.int64))


def test_metrics_equal_mmsegmentation(confusion, goldens):
    """Its means leave NaN out, as its IoUMetric prints them."""
    golden = goldens["mmseg"]
    ours, names = confusion.compute(), ("IoU", "Acc", "Dice", "aAcc")
    classes = ("iou", "class_accuracy", "dice")
    iou, acc, dice, accuracy = (golden[f"metrics/{n}"] for n in names)
    for name, expected in zip(classes, (iou, acc, dice), strict=True):
        np.testing.assert_allclose(ours[name], expected, rtol=1e-9)
    means = ("miou", "mean_accuracy", "mean_dice")
    for name, expected in zip(means, (iou, acc, dice), strict=True):
        assert ours[name] == pytest.approx(np.nanmean(expected), rel=1e-9)
    assert ours["accuracy"] == pytest.approx(float(accuracy), rel=1e-9)
    assert np.isnan(iou[6]) and np.isnan(acc[5]) and not np.isnan(iou[5])


def test_metrics_equal_paddleseg(confusion, goldens):
    golden = goldens["paddleseg"]
    ours = confusion.compute(absent="zero")
    for name in ("iou", "dice"):
        np.testing.assert_allclose(ours[name], golden[f"metrics/{name}"], rtol=1e-9)
    names = {"miou": "miou", "mean_dice": "mdice", "accuracy": "acc", "kappa": "kappa"}
    for name, theirs in names.items():
        expected = float(golden[f"metrics/{theirs}"])
        assert ours[name] == pytest.approx(expected, rel=1e-9)
    assert ours["miou"] < confusion.compute()["miou"]
