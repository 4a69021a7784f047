"""The report of a dataset, from statistics written by hand."""

import json

import numpy as np
import pytest

from data.classes import train_id_table
from data.dataset_report import make_report
from data.statistics import Problem, RecordCheck, SplitStatistics

CLASSES = train_id_table(("road", "car", "sky"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))


def statistics(*rows):
    """Of records (name, digest, pixels by class), with 10 void pixels each."""
    split = SplitStatistics(3)
    for name, digest, pixels in rows:
        counts = np.array(pixels)
        split.add(RecordCheck([], name, digest, (40, 60), counts, counts.sum() + 10))
    return split


@pytest.fixture
def splits():
    return {
        "train": statistics(("t0", b"0", (60, 30, 0)), ("t1", b"1", (90, 0, 0))),
        "val": statistics(("v0", b"1", (30, 30, 30)), ("v1", b"1", (90, 0, 0))),
    }


@pytest.fixture
def report(splits, data_config):
    splits["val"].problems.append(Problem("unreadable", "v9: damaged"))
    return make_report(data_config, CLASSES, {"train": 2, "val": 3}, splits)


def test_counts_and_shares(report):
    road, car, sky = report["classes"]
    assert road["splits"]["train"] == {"pixels": 150, "share": 150 / 180, "images": 2}
    assert car["splits"]["val"] == {"pixels": 30, "share": 30 / 180, "images": 1}
    assert sky["splits"]["train"] == {"pixels": 0, "share": 0.0, "images": 0}
    assert [row["color"] for row in report["classes"]] == [
        [1, 2, 3],
        [4, 5, 6],
        [7, 8, 9],
    ]
    val = report["splits"]["val"]
    assert (val["images"], val["checked"], val["problems"]) == (3, 2, 1)
    assert val["void"] == pytest.approx(20 / 200)
    assert val["sizes"] == [{"height": 40, "width": 60, "images": 2}]


def test_weights_are_those_of_the_training_split(report):
    # Frequencies 150/180 and 30/90: the median is between them.
    weights = [row["weight"] for row in report["classes"]]
    assert weights == [0.7, 1.75, 1.0]
    assert report["flag"] == "--config.loss.class_weights='(0.7, 1.75, 1.0)'"


def test_problems_and_warnings(report):
    assert report["problems"] == [
        {"split": "val", "kind": "unreadable", "message": "v9: damaged"}
    ]
    found = {(row["split"], row["kind"]): row["message"] for row in report["warnings"]}
    assert list(found) == [
        ("train", "classes that do not occur"),
        ("train", "small images"),
        ("val", "duplicates"),
        ("val", "leakage"),
    ]
    assert found["train", "classes that do not occur"].endswith(": sky")
    assert (
        "2 of 2 are smaller than the crop of 24 × 32" in found["train", "small images"]
    )
    assert "40 × 60 becomes 20 × 30" in found["train", "small images"]
    assert found["val", "duplicates"] == "1 images occur again: v0 = v1"
    assert found["val", "leakage"] == "1 images are also in train: v0 = t1"


def test_report_is_json(report):
    assert json.loads(json.dumps(report))["classes"][1]["name"] == "car"


def test_split_that_could_not_be_opened(data_config):
    splits = {"train": SplitStatistics(3)}
    splits["train"].problems.append(Problem("files", "no labels"))
    report = make_report(data_config, CLASSES, {"train": 0}, splits)
    assert report["warnings"] == [] and report["splits"]["train"]["void"] == 0
    assert [row["weight"] for row in report["classes"]] == [1, 1, 1]
