"""The page about a dataset is well-formed, complete, and needs nothing else."""

import numpy as np
import pytest
from html_page import check

from segnext_jax.visual.dataset_page import dataset_page
from segnext_jax.visual.examples import Example


@pytest.fixture
def report():
    part = {"pixels": 30, "share": 0.75, "images": 2}
    empty = {"pixels": 0, "share": 0.0, "images": 0}
    return {
        "source": "folder",
        "root": "data/<b>&",
        "problems": [
            {"split": "train", "kind": "unreadable", "message": f"<{i}>.png: 'cut' off"}
            for i in range(30)
        ],
        "warnings": [],
        "splits": {
            "train": {
                "images": 3000,
                "checked": 3,
                "problems": 30,
                "void": 0.25,
                "sizes": [{"height": 40, "width": 60, "images": 3}],
            }
        },
        "classes": [
            {
                "train_id": 0,
                "name": "road <1>",
                "color": [1, 2, 3],
                "weight": 0.5,
                "splits": {"train": part},
            },
            {
                "train_id": 1,
                "name": "car",
                "color": [200, 0, 255],
                "weight": 1.0,
                "splits": {"train": empty},
            },
        ],
        "flag": "--config.loss.class_weights='(0.5, 1.0)'",
        "rule": "A rule.",
    }


@pytest.fixture
def samples():
    image = np.full((300, 600, 3), 100, np.uint8)
    label = np.zeros((300, 600), np.uint8)
    return {"train": [Example(image, label, label.shape, "<script>alert(1).png")]}


def test_page_is_well_formed_and_says_it_all(report, samples):
    page = check(dataset_page(report, samples))
    for text in (
        "3 images checked: 30 problems, 0 warnings",
        "<0>.png: 'cut' off",
        "<29>.png",
        "10 more",
        "40 × 60 (3)",
        "road <1>",
        "75.000",
        "(0.5, 1.0)",
        "<script>alert(1).png",
        "data/<b>&",
    ):
        assert text in page.text
    assert "Warnings" not in page.text
    styles = [attrs["style"] for _, attrs in page.elements if "style" in attrs]
    assert "background:#010203" in styles
    assert "width:100.00%;background:#010203" in styles
    assert "width:0.00%;background:#c800ff" in styles
    assert [a for _, a in page.elements if a.get("class") == "empty"]


def test_pictures_are_inside(report, samples):
    pictures = check(dataset_page(report, samples)).photos()
    assert [picture.shape for picture in pictures] == [(240, 480, 3)] * 2
    assert abs(pictures[0].astype(int) - 100).max() <= 2
    assert abs(pictures[1].astype(int) - (50, 51, 52)).max() <= 2  # half the class


def test_sound_dataset_has_a_good_verdict(report, samples):
    assert "verdict bad" in dataset_page(report, samples)
    report["problems"] = []
    assert "verdict good" in dataset_page(report, {})
