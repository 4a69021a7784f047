"""Checks of records, their sums, and what follows from them."""

import os

import numpy as np
import pytest
from PIL import Image

from data.sources import make_source
from data.statistics import (
    ILLEGAL_LABEL,
    SIZES_DIFFER,
    UNREADABLE,
    VOID_LABEL,
    SplitStatistics,
    check_record,
    check_records,
    median_frequency_weights,
    sizes_at_least_scale,
)


@pytest.fixture
def open_folder(write_folder, data_config):
    """Writes records of the classes a, b, c; `change` may then damage them."""

    def open_it(count=3, change=lambda root: None):
        root = write_folder(count)
        (root / "classes.txt").write_text("a 1 0 0\nb 0 1 0\nc 0 0 1\n")
        change(root)
        data_config.source = "folder"
        data_config.root, data_config.classes = str(root), str(root / "classes.txt")
        return make_source(data_config, "train")

    return open_it


def kinds(check):
    return [problem.kind for problem in check.problems]


def test_sound_record_is_counted(open_folder):
    source = open_folder()
    check = check_record(source, 1)
    label = np.asarray(Image.open(source[1].label_name))
    assert check.problems == [] and check.size == (20, 30)
    assert check.pixels.tolist() == [(label == i).sum() for i in range(3)]
    assert check.num_pixels == 600 == check.pixels.sum() + 1  # one is void


def test_all_problems_of_a_record_are_found_at_once(open_folder):
    def change(root):
        (root / "images/train/0.png").write_bytes(b"no image")
        Image.fromarray(np.full((20, 30), 7, np.uint8)).save(
            root / "labels/train/0.png"
        )

    check = check_record(open_folder(change=change), 0)
    assert kinds(check) == [UNREADABLE, ILLEGAL_LABEL]
    assert "images/train/0.png" in check.problems[0].message
    assert "label ids 7 are outside" in check.problems[1].message
    assert check.size is None and check.pixels is None


@pytest.mark.parametrize(
    ("label", "kind", "message"),
    [
        (np.full((20, 30), 300, np.uint16), ILLEGAL_LABEL, "ids 300"),
        (np.full((20, 30), 255, np.uint8), VOID_LABEL, "only void"),
        (np.zeros((20, 31), np.uint8), SIZES_DIFFER, r"\(20, 31\)"),
        (np.zeros((20, 30, 4), np.uint8), ILLEGAL_LABEL, "RGBA"),
    ],
    ids=["16 bit", "void", "size", "RGBA"],
)
def test_problem_of_a_label(label, kind, message, open_folder):
    def change(root):
        Image.fromarray(label).save(root / "labels/train/2.png")

    check = check_record(open_folder(change=change), 2)
    assert kinds(check) == [kind]
    with pytest.raises(ValueError, match=message):
        raise ValueError(check.problems[0].message)
    assert "labels/train/2.png" in check.problems[0].message


def test_file_that_vanished(open_folder):
    source = open_folder()
    path = source[0].name
    os.remove(path)
    check = check_record(source, 0)
    assert kinds(check) == [UNREADABLE] and path in check.problems[0].message


def test_parallel_checks_keep_the_order(open_folder):
    source = open_folder(count=40)
    indices = list(range(39, -1, -1))
    names = [check.name for check in check_records(source, indices)]
    assert names == [source[i].name for i in indices]


def test_statistics_add_up(open_folder):
    source = open_folder(count=4)
    statistics = SplitStatistics(num_classes=3)
    for check in check_records(source, range(4)):
        statistics.add(check)
    labels = [np.asarray(Image.open(source[i].label_name)) for i in range(4)]
    counts = np.array([[(x == i).sum() for i in range(3)] for x in labels])
    np.testing.assert_array_equal(statistics.pixels, counts.sum(axis=0))
    np.testing.assert_array_equal(statistics.images, (counts > 0).sum(axis=0))
    np.testing.assert_array_equal(
        statistics.image_pixels, ((counts > 0) * counts.sum(axis=1)[:, None]).sum(0)
    )
    assert statistics.sizes == {(20, 30): 4} and statistics.num_pixels == 2400
    assert statistics.num_checked == 4 and statistics.repeats == []


def test_equal_images_are_repeats(open_folder):
    def change(root):
        data = (root / "images/train/0.png").read_bytes()
        (root / "images/train/2.png").write_bytes(data)

    source = open_folder(change=change)
    statistics = SplitStatistics(num_classes=3)
    for check in check_records(source, range(3)):
        statistics.add(check)
    assert statistics.repeats == [(source[0].name, source[2].name)]
    assert len(statistics.names) == 2


def test_weights_are_the_median_frequency_over_the_own():
    # Two images of 100 pixels; the last class is in one of them alone.
    weights = median_frequency_weights(
        np.array([120, 60, 20]), np.array([200, 200, 100])
    )
    np.testing.assert_allclose(weights, [0.3 / 0.6, 1.0, 0.3 / 0.2])


def test_weights_are_limited_and_one_for_absent_classes():
    pixels, image_pixels = (
        np.array([10**6, 500, 1, 0]),
        np.array([10**6, 1000, 10**6, 0]),
    )
    assert median_frequency_weights(pixels, image_pixels).tolist() == [0.5, 1, 10, 1]
    assert median_frequency_weights(np.zeros(2, int), np.zeros(2, int)).tolist() == [
        1,
        1,
    ]


def test_sizes_at_least_scale_follow_the_recipe(data_config):
    names = ("a", "b")
    sizes = [(40, 60), (100, 50)]
    assert sizes_at_least_scale(sizes, data_config, names) == {
        (40, 60): (20, 30),
        (100, 50): (50, 25),
    }
    data_config.resize_to = (20, 80)  # the image fits into a box turned as it is
    scaled = sizes_at_least_scale(sizes, data_config, names)
    assert scaled == {(40, 60): (10, 15), (100, 50): (20, 10)}
    data_config.crop_size = (0, 3)
    with pytest.raises(ValueError, match="crop_size"):
        sizes_at_least_scale((), data_config, names)
