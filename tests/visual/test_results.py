import numpy as np
import pytest
from PIL import Image

from segnext_jax.visual.results import Results

NAMES = ("sky", "road", "car")
PALETTE = ((70, 130, 180), (128, 64, 128), (0, 0, 142))
IMAGE = np.full((32, 48, 3), 200, np.uint8)
PRED = np.repeat(np.repeat([[0, 1], [1, 2]], 16, 0), 24, 1).astype(np.uint8)


def load(path, mode=None):
    with Image.open(path) as image:
        return np.asarray(image.convert(mode) if mode else image)


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_what_is_written(tmp_path):
    kinds = ["labels", "colors", "overlay"]
    Results(str(tmp_path), kinds, NAMES, PALETTE).save("a/x", IMAGE, PRED)
    assert files(tmp_path) == {"labels/a/x.png", "colors/a/x.png", "overlay/a/x.jpg"}
    np.testing.assert_array_equal(load(tmp_path / "labels/a/x.png"), PRED)
    colors = tmp_path / "colors/a/x.png"
    np.testing.assert_array_equal(load(colors), PRED)
    np.testing.assert_array_equal(load(colors, "RGB"), np.array(PALETTE)[PRED])
    expected = (200 + np.array(PALETTE)[PRED]) / 2
    error = np.abs(load(tmp_path / "overlay/a/x.jpg") - expected)
    assert error.mean() < 3  # of JPEG


@pytest.mark.parametrize(("opacity", "grey"), [(0.0, True), (1.0, False)])
def test_opacity(tmp_path, opacity, grey):
    results = Results(str(tmp_path), ["overlay"], NAMES, PALETTE, opacity=opacity)
    picture = results.draw("overlay", IMAGE, PRED, [])
    np.testing.assert_array_equal(picture, IMAGE if grey else np.array(PALETTE)[PRED])


def test_legend_has_the_classes_that_occur(tmp_path):
    results = Results(str(tmp_path), ["overlay", "labels"], NAMES, PALETTE, legend=True)
    results.save("x", IMAGE, np.where(PRED == 1, 0, PRED))
    assert load(tmp_path / "labels/x.png").shape == (32, 48)
    legend = load(tmp_path / "overlay/x.jpg")[32:].astype(int)
    distance = [np.abs(legend - colour).sum(-1).min() for colour in PALETTE]
    assert distance[0] < 30 and distance[2] < 30 < distance[1]


def test_results_are_replaced(tmp_path):
    results = Results(str(tmp_path), ["labels"], NAMES, PALETTE)
    results.save("x", IMAGE, PRED)
    results.save("x", IMAGE, 0 * PRED)
    assert not load(tmp_path / "labels/x.png").any()
    assert files(tmp_path) == {"labels/x.png"}


@pytest.mark.parametrize(
    ("kinds", "message"),
    [(["label"], "cannot write 'label': choose of labels, "), ([], "write nothing")],
)
def test_other_kinds(tmp_path, kinds, message):
    with pytest.raises(ValueError, match=message):
        Results(str(tmp_path), kinds, NAMES, PALETTE)
