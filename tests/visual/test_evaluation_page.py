"""The page about an evaluation says what metrics.json says, and needs nothing else."""

import numpy as np
import pytest
from html_page import check

from segnext_jax.visual.evaluation_page import evaluation_page
from segnext_jax.visual.score_sections import Comparison

PALETTE = ((128, 64, 128), (0, 0, 142))


@pytest.fixture
def report():
    """As metrics.json holds it."""
    scores = {"iou": 0.5, "accuracy": 0.75, "dice": 2 / 3, "boundary_iou": 0.125}
    return {
        "num_images": 1234,
        "miou": 0.5,
        "accuracy": 0.9876,
        "mean_accuracy": 0.75,
        "mean_dice": 0.25,
        "kappa": -0.03456,
        "mean_boundary_iou": 0.125,
        "miou_interval": [0.45, 0.55],
        "classes": {
            "road <1>": {**scores, "share": 1.0},
            "car": dict.fromkeys((*scores, "share")),
        },
        "confusion": [[3, 1], [0, 0]],
        "nmf_draws": {"miou": [0.4, 0.41], "mean": 0.405, "std": 0.00707},
        "checkpoint": "runs/<b>",
        "step": 160000,
        "protocol": "official multi-scale",
        "overrides": {"mode": "slide"},
        "eval": {"mode": "slide", "scales": [0.5, 1.0], "batch_size": 8},
        "data": {"source": "cityscapes", "root": "data/&", "split": "val"},
        "environment": {"jax": "0.10.2", "devices": "8 × TPU v5e"},
    }


@pytest.fixture
def worst():
    image = np.full((300, 600, 3), 100, np.uint8)
    truth = np.zeros((300, 600), np.uint8)
    pred = np.ones((300, 600), np.uint8)
    return [Comparison(image, truth, pred, "1. <script>x.png, mIoU 0.00 %")]


def test_page_says_it_all(report, worst):
    page = check(evaluation_page(report, PALETTE, worst))
    for text in (
        "Evaluation on cityscapes data/&, val",
        "mIoU50.00 %",
        "pixel accuracy98.76 %",
        "kappa-0.0346",
        "1,234 images",
        "45.00 % to 55.00 %",
        "2 draws of random NMF bases: mIoU 40.50 ± 0.71 %",
        "road <1>50.00",
        "12.50",
        "car–",
        "1. <script>x.png",
        "runs/<b>, step 160000",
        "official multi-scale, but for mode",
        "[0.5, 1.0]",
        "8 × TPU v5e",
    ):
        assert text in page.text, text


def test_pictures_are_inside(report, worst):
    page = check(evaluation_page(report, PALETTE, worst))
    (matrix,) = page.files("image/png")
    assert matrix.startswith(b"\x89PNG")
    image, truth, pred, differences = page.photos()
    assert {x.shape for x in (image, truth, pred, differences)} == {(240, 480, 3)}
    for picture, color in (
        (image, (100, 100, 100)),
        (truth, (114, 82, 114)),  # half the class's
        (pred, (50, 50, 121)),
        (differences, (214, 39, 40)),
    ):
        assert abs(picture.astype(int) - color).max() <= 3


def test_nothing_to_score_is_shown_as_dashes(report):
    for key in ("miou", "accuracy", "kappa", "mean_boundary_iou"):
        report[key] = None
    report |= {"miou_interval": [None, None], "nmf_draws": None, "protocol": None}
    report["overrides"] = {}
    page = check(evaluation_page(report, PALETTE, []))
    assert "mIoU– %" in page.text and "kappa–" in page.text
    assert "draw" not in page.text and "Worst" not in page.text
    assert "of the checkpoint's config" in page.text


def test_a_single_draw_has_no_deviation(report):
    report["nmf_draws"] = {"miou": [0.4], "mean": 0.4, "std": None}
    page = check(evaluation_page(report, PALETTE, []))
    assert "1 draw of random NMF bases: mIoU 40.00 %" in page.text
