"""Pages of examples: exact pixels, hatching, legend."""

import numpy as np
import pytest
from PIL import Image

from segnext_jax.visual.examples import Example, draw_label, save_examples
from segnext_jax.visual.legend import draw_legend
from segnext_jax.visual.overlay import hatch, overlay

PALETTE = ((10, 20, 30), (200, 0, 0), (0, 0, 250))
NAMES = ("road", "car", "sky")


def example(seed=0, size=(40, 60), valid=(30, 50)):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    label = rng.integers(0, 2, size)
    label[5:10] = label[valid[0] :] = label[:, valid[1] :] = 255
    return Example(image, label, valid, f"example {seed}")


def read(path):
    with Image.open(path) as file:
        return np.asarray(file)


def find(page, block):
    """Top left corners at which a block of pixels is in a page."""
    h, w, _ = block.shape
    corners = np.argwhere((page[: 1 - h, : 1 - w] == block[0, 0]).all(axis=-1))
    return [(y, x) for y, x in corners if (page[y : y + h, x : x + w] == block).all()]


def test_hatch_marks_what_it_is_told():
    image = np.full((20, 30, 3), 100, np.uint8)
    where = np.zeros((20, 30), bool)
    where[10:] = True
    marked = hatch(image, where)
    np.testing.assert_array_equal(marked[:10], image[:10])
    colors = np.unique(marked[10:].reshape(-1, 3), axis=0)
    assert len(colors) == 2 and not (colors == 100).any()  # stripes, and between
    # Diagonals: one row down is one column to the left.
    np.testing.assert_array_equal(marked[11, :-1], marked[10, 1:])
    on_paper = hatch(image, where, paper=(1, 2, 3))
    assert ((on_paper == (1, 2, 3)).all(axis=-1) == (on_paper == 1).any(axis=-1)).all()
    assert (on_paper[10:] == (1, 2, 3)).all(axis=-1).any()


def test_hatch_needs_a_mask_of_the_image():
    with pytest.raises(ValueError, match=r"where \[2, 2\].*\[3, 2\]"):
        hatch(np.zeros((3, 2, 3), np.uint8), np.zeros((2, 2), bool))


def test_void_and_padding_look_different():
    drawn = draw_label(example(), PALETTE)
    plain = overlay(example().image, example().label, PALETTE)
    valid = example().label != 255
    np.testing.assert_array_equal(drawn[valid], plain[valid])
    paper = (drawn == 245).all(axis=-1)
    assert paper[30:].mean() > 0.3 and paper[:, 50:].mean() > 0.3
    assert not paper[:30, :50].any()
    void = drawn[5:10, :50].reshape(-1, 3)
    _, counts = np.unique(void, axis=0, return_counts=True)
    assert counts.max() / counts.sum() > 0.4  # the stripes
    assert (void != plain[5:10, :50].reshape(-1, 3)).mean() > 0.9


def test_mosaic_has_every_pixel(tmp_path):
    examples = [example(seed) for seed in range(5)]
    path = tmp_path / "page.png"
    save_examples(path, examples, NAMES, PALETTE, title="title")
    page = read(path)
    for each in examples:
        (place,) = find(page, each.image)
        (beside,) = find(page, draw_label(each, PALETTE))
        assert beside[0] == place[0] and 60 < beside[1] - place[1] < 70
    places = [find(page, each.image)[0] for each in examples]
    assert places == sorted(places)  # row by row
    legend = page[-40:]
    for color, is_present in zip(PALETTE, (True, True, False), strict=True):
        assert (legend == color).all(axis=-1).any() == is_present


def test_large_examples_are_shrunk(tmp_path):
    path = tmp_path / "page.png"
    large = [example(seed, (200, 400)) for seed in range(2)]
    save_examples(path, large, NAMES, PALETTE, title="", max_side=100)
    assert max(read(path).shape) < 500
    save_examples(path, large, NAMES, PALETTE, title="", max_side=400)
    assert find(read(path), large[0].image)


def test_mosaic_refuses_nothing_and_other_sizes(tmp_path):
    for examples in ([], [example(), example(size=(50, 60))]):
        with pytest.raises(ValueError, match="images of one size"):
            save_examples(tmp_path / "x.png", examples, NAMES, PALETTE, title="")


def test_legend_takes_patterns():
    pattern = np.full((64, 64, 3), (9, 8, 7), np.uint8)
    legend = np.asarray(draw_legend([("road", PALETTE[0]), ("void", pattern)], 300))
    for color in (PALETTE[0], (9, 8, 7)):
        assert (legend == color).all(axis=-1).sum() > 50
