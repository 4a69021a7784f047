"""Predictions in the label ids and under the names that benchmarks ask for."""

import cv2
import numpy as np
import pytest

from data.classes import parse_classes, train_id_table
from data.sources.cityscapes import CITYSCAPES
from data.test_server import LabelIdWriter, label_ids, prediction_file


def test_cityscapes_gets_its_own_ids(tmp_path):
    pred = np.arange(19, dtype=np.uint8).reshape(1, 19)
    names = {5: "leftImg8bit/test/bonn/bonn_000003_000019_leftImg8bit.png"}
    LabelIdWriter(str(tmp_path / "new"), CITYSCAPES, names).write(5, pred)
    path = tmp_path / "new" / "bonn_000003_000019_pred.png"
    written = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint8
    expected = "7 8 11 12 13 17 19 20 21 22 23 24 25 26 27 28 31 32 33"
    assert written[0].tolist() == [int(i) for i in expected.split()]
    # And back: what the benchmark reads of it.
    assert CITYSCAPES.to_train_ids(written, "").tolist() == pred.tolist()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (
            "a/frankfurt_000000_000294_leftImg8bit.png",
            "frankfurt_000000_000294_pred.png",
        ),
        (
            "cityscapes/semantic_segmentation test[3] bonn_000003_000019 image_left",
            "bonn_000003_000019_pred.png",
        ),
        ("images/test/ADE_test_00000001.jpg", "ADE_test_00000001_pred.png"),
        ("photo.jpeg", "photo_pred.png"),
    ],
)
def test_files_are_named_after_the_frame(name, file):
    assert prediction_file(name) == file


def test_two_images_of_one_name_are_refused(tmp_path):
    folder, names = tmp_path / "new", {0: "a/x.png", 1: "y.png", 2: "b/x.png"}
    with pytest.raises(ValueError, match=r"a/x\.png and b/x\.png would both .* x_pred"):
        LabelIdWriter(str(folder), CITYSCAPES, names)
    assert not folder.exists()


def test_classes_without_a_single_id_are_refused():
    several = parse_classes("4,6-8: wall 1 1 1\n9: car 2 2 2", "classes.txt")
    with pytest.raises(ValueError, match=r"'wall' has the label ids \[4, 6, 7, 8\]"):
        label_ids(several)
    own = train_id_table(("a", "b"), ((0, 0, 0), (1, 1, 1)))
    assert label_ids(own).tolist() == [0, 1]
