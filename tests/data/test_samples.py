"""Images to compare programs on: which, and at what size."""

import numpy as np
import pytest
from PIL import Image

from data.classes import parse_classes
from data.samples import labelled_samples, photo_samples
from data.sources.folder import Folder

CLASSES = parse_classes("left 255 0 0\nright 0 255 0\n", "the test", colour_labels=True)


@pytest.fixture
def folder(tmp_path):
    """Seven images of 4×6, whose value is their number; the right half is class 1."""
    label = np.repeat(np.array([[0, 1]], np.uint8), 3, axis=1).repeat(4, axis=0)
    for name in ("images", "labels"):
        (tmp_path / name / "val").mkdir(parents=True)
    for i in range(7):
        grey = np.full((4, 6, 3), 10 * i, np.uint8)
        Image.fromarray(grey).save(tmp_path / f"images/val/{i}.png")
        Image.fromarray(label).save(tmp_path / f"labels/val/{i}.png")
    return tmp_path


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0]), (3, [0, 30, 60]), (100, range(0, 70, 10))]
)
def test_labelled_samples_are_all_over_the_split(count, expected, folder):
    samples = list(labelled_samples(Folder(str(folder), "val", CLASSES), count, None))
    assert [sample.image[0, 0, 0] for sample in samples] == list(expected)
    assert samples[0].name.endswith("0.png")
    np.testing.assert_array_equal(samples[0].label, [[0, 0, 0, 1, 1, 1]] * 4)


def test_size_is_that_asked_for_and_labels_stay_classes(folder):
    source = Folder(str(folder), "val", CLASSES)
    (sample,) = labelled_samples(source, 1, (9, 5))
    assert sample.image.shape == (9, 5, 3)
    assert sample.label.shape == (9, 5)
    assert set(np.unique(sample.label)) == {0, 1}


def test_photos_are_the_first_ones(folder):
    samples = list(photo_samples([str(folder / "images")], 2, (8, 12)))
    assert [sample.image[0, 0, 0] for sample in samples] == [0, 10]
    assert all(s.image.shape == (8, 12, 3) and s.label is None for s in samples)


def test_what_has_no_image_is_named(tmp_path):
    video = tmp_path / "drive.mp4"
    video.touch()
    with pytest.raises(FileNotFoundError, match=r"no image in .*drive\.mp4"):
        photo_samples([str(video)], 1, None)
    with pytest.raises(FileNotFoundError, match="gone"):
        photo_samples(["gone"], 1, None)
