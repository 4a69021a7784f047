"""The page about a run, from what the loop tells the report."""

import time

import jax
import numpy as np
import pytest
from clu import metric_writers
from html_page import check

from segnext_jax.evaluation.evaluator import (
    Example,
    ImageCounts,
    SegmentationEvaluation,
)
from segnext_jax.evaluation.metrics import Confusion, TopK
from segnext_jax.training.classification import Classification
from segnext_jax.training.report import Report
from segnext_jax.training.segmentation import Segmentation

CLASSES = ("road", "car", "sky", "pole", "tree")
PALETTE = tuple((40 * i, 10, 200 - 40 * i) for i in range(5))


def evaluation():
    """Two images of other sizes; sky is predicted as road."""
    counts = np.diag([50, 20, 0, 10, 5])
    counts[2, 0] = 15
    rng = np.random.default_rng(0)
    examples = []
    for size in ((20, 40), (30, 25)):
        label = rng.integers(0, 5, size).astype(np.uint8)
        pred = np.where(label == 2, 0, label).astype(np.uint8)
        examples.append(Example(np.full((*size, 3), 90, np.uint8), label, pred))
    none = np.zeros((2, 5), np.int64)
    images = ImageCounts(np.arange(2), none, none, none)
    return SegmentationEvaluation(Confusion(counts), images, examples)


@pytest.fixture
def finish(tmp_path):
    """Reports a run of 4 steps, of which two rows are logged; returns its page."""

    def run(config, task, result, start_step=0):
        writer = metric_writers.MultiWriter([])
        report = Report(str(tmp_path), writer, task, start_step)
        report.start(config, {"w": np.zeros(3)})
        time.sleep(0.2)  # as the first step compiles
        for step, rate in ((2, 40.0), (4, 60.0)):
            row = {"train/loss": 1 / step, "train/images_per_second": rate}
            report.scalars(start_step + step, row)
            report.evaluation(start_step + step, result)
        report.finish()
        return check((tmp_path / "report.html").read_text())

    return run


def test_segmentation(finish, config):
    page = finish(config, Segmentation(config, CLASSES, PALETTE), evaluation())
    for text in (
        "SegNeXt-tiny on cityscapes",
        "mIoU75.38 %",  # (50/65 + 1 + 0 + 1 + 1) / 5
        "pixel accuracy85.00 %",
        "4, scored on 2 images",
        "mIoU 75.38 % at step 4",
        "50 images/s, 25 steps/s of 2 images (median)",
        f"{jax.device_count()} × ",
        '"num_train_steps": 6',
        "sky0.000.000.0015.00",
    ):
        assert text in page.text, text
    assert len(page.files("image/svg+xml")) == 2
    assert len(page.files("image/png")) == 1
    assert len(page.photos()) == 2 * 4
    # 0.2 s, less one step of 2 images at 40 a second.
    seconds = float(page.text.split("first step")[1].split(" s,")[0])
    assert 0.1 <= seconds < 5


def test_classification(finish, make_config):
    config = make_config("classification")
    result = TopK(np.array([3, 6, 8]))
    page = finish(config, Classification(config, CLASSES), result)
    assert "top-137.50 %" in page.text and "top-575.00 %" in page.text
    assert "Confusion" not in page.text
    assert len(page.files("image/svg+xml")) == 2


def test_resumed_run_says_what_it_lasted_for(finish, config):
    task = Segmentation(config, CLASSES, PALETTE)
    page = finish(config, task, evaluation(), start_step=1000)
    assert "h since step 1,000" in page.text
    assert "1,004, scored on" in page.text
