"""The page about a run is complete and needs nothing else."""

import numpy as np
from html_page import check

from segnext_jax.visual.run_page import Run, run_page
from segnext_jax.visual.score_sections import (
    Comparison,
    class_section,
    comparison_section,
    confusion_section,
)

PALETTE = ((128, 64, 128), (0, 0, 142))
RUN = Run(
    title="SegNeXt-T on <camvid>",
    root="data/&",
    scores={"mIoU": "41.24 %"},
    facts={"duration": "0:12:30 h"},
    environment={"devices": "1 × cpu"},
    config={"data": {"root": "</pre><b>"}, "crop_size": [64, 64]},
)
HISTORY = {"train/loss": [(1, 2.0), (2, 1.0)], "val/miou": [(2, 0.4)]}


def test_page_says_it_all():
    page = check(run_page(RUN, HISTORY, ["<h2>Classes & more</h2>"]))
    for text in (
        "SegNeXt-T on <camvid> data/&",
        "mIoU41.24 %",
        "Classes & more",
        "duration0:12:30 h",
        "devices1 × cpu",
        '"root": "</pre><b>"',
    ):
        assert text in page.text, text
    curves = page.files("image/svg+xml")
    assert len(curves) == 2 and all(b"</svg>" in curve for curve in curves)


def test_sections_of_a_segmentation_fit_in():
    image = np.zeros((30, 40, 3), np.uint8)
    label = np.zeros((30, 40), np.uint8)
    names = ("road", "car")
    columns = {"IoU": np.array([0.5, np.nan]), "Dice": np.array([2 / 3, np.nan])}
    sections = [
        class_section(names, PALETTE, columns),
        confusion_section(np.eye(2, dtype=int), names),
        comparison_section(
            "Samples", "Some.", [Comparison(image, label, label)] * 2, PALETTE
        ),
    ]
    page = check(run_page(RUN, {}, sections))
    assert "road50.0066.67" in page.text and "car––" in page.text
    assert len(page.files("image/png")) == 1 and len(page.photos()) == 8
    styles = [attrs["style"] for _, attrs in page.elements if "style" in attrs]
    assert "width:50.00%;background:#804080" in styles
    assert "width:0.00%;background:#00008e" in styles
