"""The scores of an evaluation as text and as files."""

import json

import numpy as np
import pytest

from segnext_jax.evaluation.evaluator import ImageCounts, SegmentationEvaluation
from segnext_jax.evaluation.inspection import Inspected
from segnext_jax.evaluation.metrics import Confusion
from segnext_jax.evaluation.report import (
    describe,
    image_scores,
    make_draws,
    make_scores,
    write_report,
)

CLASSES = ("road", "car", "sky")
# Of two images: rows are labels; sky is in neither.
COUNTS = np.array(
    [[[6, 2, 0], [1, 3, 0], [0, 0, 0]], [[8, 0, 0], [0, 0, 0], [0, 0, 0]]]
)
BOUNDARY = np.array([[3, 1, 0], [6, 4, 0]])


def evaluation(counts=COUNTS):
    images = ImageCounts(
        np.arange(len(counts)),
        np.diagonal(counts, axis1=1, axis2=2),
        counts.sum(axis=2),
        counts.sum(axis=1),
    )
    return SegmentationEvaluation(Confusion(counts.sum(axis=0)), images, [])


@pytest.fixture
def scores():
    return make_scores(evaluation(), BOUNDARY, CLASSES, "skip")


def test_scores_are_those_of_the_counts(scores):
    assert scores["num_images"] == 2
    assert scores["miou"] == pytest.approx((14 / 17 + 3 / 6) / 2)
    assert scores["mean_boundary_iou"] == pytest.approx((3 / 6 + 1 / 4) / 2)
    assert scores["classes"]["car"]["boundary_iou"] == 1 / 4
    assert scores["classes"]["car"]["accuracy"] == 3 / 4
    assert set(scores["classes"]["sky"].values()) == {None, 0.0}  # its share is 0
    assert scores["confusion"] == COUNTS.sum(axis=0).tolist()
    low, high = scores["miou_interval"]
    assert low < scores["miou"] < high


def test_rule_for_absent_classes_is_that_of_the_protocol(scores):
    zero = make_scores(evaluation(), BOUNDARY, CLASSES, "zero")
    assert zero["miou"] == pytest.approx(scores["miou"] * 2 / 3)
    assert zero["miou_interval"][1] <= 2 / 3
    assert zero["mean_boundary_iou"] == scores["mean_boundary_iou"]


def test_text_has_the_classes_and_all_scores(scores):
    lines = describe(scores).splitlines()
    assert lines[0].split("  ")[-1] == "pixels %"
    assert "boundary IoU %" in lines[0]
    assert lines[3].split() == ["car", "50.00", "75.00", "66.67", "25.00", "20.00"]
    assert lines[4].split() == ["sky", "–", "–", "–", "–", "0.00"]
    assert lines[-2] == (
        "mean accuracy 81.25 %, mean Dice 78.49 %, boundary IoU 37.50 %, kappa 0.5714"
    )
    assert lines[-1].startswith("95 % interval of the mIoU over images (bootstrap): ")


def test_nothing_labelled_is_nothing_to_score():
    """A test split without labels: dashes, and null in the files."""
    empty = evaluation(np.zeros((2, 3, 3), int))
    scores = make_scores(empty, np.zeros((2, 3), int), CLASSES, "skip")
    assert scores["miou"] is None and scores["miou_interval"] == [None, None]
    assert "interval of the mIoU over images (bootstrap): – % to – %" in describe(
        scores
    )


def test_images_have_scores_of_their_own():
    names, sizes = {0: "a.png", 1: "b.png"}, np.array([[2, 6], [4, 2]])
    rows = image_scores(evaluation().images, CLASSES, names, sizes)
    assert rows["classes"] == list(CLASSES)
    assert rows["images"][0] == {
        "name": "a.png",
        "size": [2, 6],
        "miou": pytest.approx((6 / 9 + 3 / 6) / 2),
        "accuracy": 9 / 12,
        "iou": [6 / 9, 3 / 6, None],
    }
    assert rows["images"][1]["iou"] == [1.0, None, None]


def test_draws_are_summed_up():
    draws = make_draws([0.4, 0.5, 0.6])
    assert draws == {
        "miou": [0.4, 0.5, 0.6],
        "mean": pytest.approx(0.5),
        "std": pytest.approx(0.1),  # of n - 1
    }
    assert make_draws([0.4])["std"] is None
    assert make_draws([]) is None


def test_files_are_written(scores, tmp_path):
    report = scores | {
        "nmf_draws": None,
        "checkpoint": "runs/x",
        "step": 3,
        "protocol": None,
        "overrides": {},
        "eval": {"mode": "whole"},
        "data": {"source": "folder", "root": "data", "split": "val"},
        "environment": {"jax": "0"},
    }
    names = {0: "a.png", 1: "b.png"}
    by_image = image_scores(evaluation().images, CLASSES, names, [(2, 6), (4, 2)])
    label = np.zeros((4, 2), np.uint8)
    worst = [Inspected(1, np.zeros((4, 2, 3), np.uint8), label, label, 0.25)]
    palette = [(0, 0, 0), (1, 1, 1), (2, 2, 2)]
    folder = tmp_path / "new" / "report"
    write_report(folder, report, by_image, worst, names, palette)
    assert json.loads((folder / "metrics.json").read_text()) == report
    assert json.loads((folder / "per_image.json").read_text()) == by_image
    assert (folder / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert "1. b.png, mIoU 25.00 %" in (folder / "report.html").read_text()
