"""Curves are drawn for whatever the history holds, without global state."""

import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from segnext_jax.visual import plot_curves
from segnext_jax.visual.plots import _series, _smooth, draw_curves

COLORS = {"loss": "#1f6fb4", "lr": "#e07b18", "miou": "#2b9348"}


def _pixels(path, name):
    """How many pixels have the colour of a curve; (left half, right half)."""
    with Image.open(path) as file:
        image = np.asarray(file.convert("RGB")).astype(int)
    color = [int(COLORS[name][i : i + 2], 16) for i in (1, 3, 5)]
    hits = np.abs(image - color).max(axis=-1) < 8
    middle = image.shape[1] // 2
    return hits[:, :middle].sum(), hits[:, middle:].sum()


FULL = {
    "train/loss": [(step, 3.0 / (1 + step / 50)) for step in range(0, 300, 3)],
    "train/lr": [(step, 6e-4 * (1 - step / 300)) for step in range(0, 300, 3)],
    "train/grad_norm": [(0, 1.0)],
    "val/miou": [(100, 0.3), (200, 0.5)],
    "val/accuracy": [(100, 0.7), (200, 0.8)],
}


def test_every_curve_is_drawn_in_its_panel(tmp_path):
    path = tmp_path / "curves.png"
    plot_curves(path, FULL)
    loss, accuracy = _pixels(path, "loss")
    assert loss > 300 and accuracy > 300
    assert _pixels(path, "lr")[0] > 300
    assert _pixels(path, "miou")[1] > 300 and _pixels(path, "miou")[0] == 0


def test_scores_of_classification_are_drawn(tmp_path):
    path = tmp_path / "curves.png"
    points = {"val/top1": [(1, 0.1), (2, 0.6)], "val/top5": [(1, 0.3), (2, 0.9)]}
    plot_curves(path, points)
    assert _pixels(path, "miou")[1] > 300  # green, as the other task's score
    assert _pixels(path, "loss")[1] > 300


def test_a_single_point_is_visible_before_any_validation(tmp_path):
    path = tmp_path / "curves.png"
    plot_curves(path, {"train/loss": [(1, 2.9)], "train/lr": [(1, 1e-5)]})
    loss, accuracy = _pixels(path, "loss")
    assert loss > 20 and accuracy == 0
    assert _pixels(path, "lr")[0] > 20
    assert _pixels(path, "miou") == (0, 0)


@pytest.mark.parametrize(
    "history", [{}, {"train/loss": []}, {"val/miou": [(5, float("nan"))]}]
)
def test_an_empty_history_is_drawn(tmp_path, history):
    path = tmp_path / "curves.png"
    plot_curves(path, history)
    with Image.open(path) as file:
        assert file.size == (1200, 456)


def test_curves_are_two_drawings_for_a_page():
    drawings = draw_curves(FULL)
    roots = [ElementTree.fromstring(drawing) for drawing in drawings]
    assert [root.tag for root in roots] == ["{http://www.w3.org/2000/svg}svg"] * 2
    training, validation = (drawing.decode().lower() for drawing in drawings)
    assert COLORS["lr"] in training and COLORS["lr"] not in validation
    assert COLORS["miou"] in validation and COLORS["miou"] not in training


def test_series_are_in_order_of_the_steps():
    steps, values = _series({"a": [(3, 0.3), (1, 0.1), (2, 0.2)]}, "a")
    assert steps.tolist() == [1, 2, 3] and values.tolist() == [0.1, 0.2, 0.3]


def test_smoothing_keeps_lines_and_shrinks_noise():
    line = np.linspace(3.0, 1.0, 500)
    np.testing.assert_allclose(_smooth(line)[5:-5], line[5:-5])
    assert len(_smooth(line)) == 500
    noise = np.random.default_rng(0).standard_normal(500)
    assert _smooth(noise).std() < 0.5
    noise[250] = np.nan  # a diverged step must not erase the rest of the curve
    assert np.isnan(_smooth(noise)).sum() == 11
    np.testing.assert_array_equal(_smooth(noise[:50]), noise[:50])


def test_pyplot_is_never_imported():
    program = (
        "import sys, segnext_jax.visual; sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
