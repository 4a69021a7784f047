"""Exact colours and sizes of the pictures."""

import numpy as np
import pytest
from PIL import Image

from segnext_jax.visual import colorize, mosaic, overlay, panel, save_predictions
from segnext_jax.visual.overlay import GAP, differences

PALETTE = ((10, 20, 30), (200, 0, 0), (0, 0, 250))
NAMES = ("road", "car", "sky")
LABEL = np.array([[0, 1, 255], [2, 2, 1]], np.uint8)
IMAGE = np.full((2, 3, 3), 100, np.uint8)


def test_colorize_paints_ids_and_ignored_pixels():
    colors = colorize(LABEL, PALETTE, ignore_color=(1, 2, 3))
    assert colors.dtype == np.uint8
    expected = [
        [PALETTE[0], PALETTE[1], (1, 2, 3)],
        [PALETTE[2], PALETTE[2], PALETTE[1]],
    ]
    assert colors.tolist() == [[list(c) for c in row] for row in expected]


def test_colorize_ignores_in_black_and_takes_any_integer_type():
    colors = colorize(LABEL.astype(np.int32), PALETTE)
    assert colors[0, 2].tolist() == [0, 0, 0]


@pytest.mark.parametrize("illegal", [3, 254, -1])
def test_colorize_names_an_id_without_colour(illegal):
    with pytest.raises(ValueError, match=rf"train ids \[{illegal}\].*0\.\.2"):
        colorize(np.array([[0, illegal]], np.int32), PALETTE)


@pytest.mark.parametrize("label", [np.zeros((2, 3)), np.zeros((2, 3, 1), np.uint8)])
def test_colorize_refuses_what_is_no_label(label):
    with pytest.raises(ValueError, match=r"integers \[h w\]"):
        colorize(label, PALETTE)


def test_overlay_blends_and_keeps_ignored_pixels():
    blend = overlay(IMAGE, LABEL, PALETTE, alpha=0.25)
    assert blend.dtype == np.uint8
    assert blend[0, 0].tolist() == [78, 80, 82]  # 77.5 rounds to even
    assert blend[0, 1].tolist() == [125, 75, 75]
    assert blend[0, 2].tolist() == [100, 100, 100]


def test_overlay_at_the_ends_of_alpha():
    valid = LABEL != 255
    opaque = overlay(IMAGE, LABEL, PALETTE, alpha=1.0)
    np.testing.assert_array_equal(opaque[valid], colorize(LABEL, PALETTE)[valid])
    np.testing.assert_array_equal(overlay(IMAGE, LABEL, PALETTE, alpha=0.0), IMAGE)


def test_overlay_refuses_bad_input():
    with pytest.raises(ValueError, match=r"label \[3, 2\].*\[2, 3\]"):
        overlay(IMAGE, LABEL.T, PALETTE)
    with pytest.raises(ValueError, match=r"alpha = 1\.5"):
        overlay(IMAGE, LABEL, PALETTE, alpha=1.5)
    with pytest.raises(ValueError, match=r"uint8.*float64"):
        overlay(IMAGE / 255.0, LABEL, PALETTE)


def test_panel_places_image_truth_and_prediction():
    pred = np.array([[2, 1, 0], [2, 2, 1]], np.uint8)
    result = panel(IMAGE, LABEL, pred, PALETTE)
    assert result.shape == (2, 3 * 3 + 2 * GAP, 3) and result.dtype == np.uint8
    truth_at, pred_at = 3 + GAP, 2 * (3 + GAP)
    np.testing.assert_array_equal(result[:, :3], IMAGE)
    np.testing.assert_array_equal(
        result[:, truth_at : truth_at + 3], colorize(LABEL, PALETTE)
    )
    np.testing.assert_array_equal(result[:, pred_at:], colorize(pred, PALETTE))
    assert (result[:, 3:truth_at] == 255).all()
    assert result[0, truth_at + 2].tolist() == [0, 0, 0]  # ignored in the truth …
    assert result[0, pred_at + 2].tolist() == list(
        PALETTE[0]
    )  # … predicted all the same


def test_panel_names_the_label_of_another_size():
    with pytest.raises(ValueError, match=r"pred \[1, 3\]"):
        panel(IMAGE, LABEL, LABEL[:1], PALETTE)


def test_mosaic_stacks_with_white_gaps():
    low, high = np.full((2, 5, 3), 7, np.uint8), np.full((3, 5, 3), 9, np.uint8)
    result = mosaic([low, high])
    assert result.shape == (2 + GAP + 3, 5, 3)
    assert (result[:2] == 7).all() and (result[-3:] == 9).all()
    assert (result[2:-3] == 255).all()
    np.testing.assert_array_equal(mosaic([low]), low)


def test_mosaic_enlarges_to_the_widest():
    small, wide = np.full((4, 10, 3), 7, np.uint8), np.full((3, 25, 3), 9, np.uint8)
    result = mosaic([small, wide])
    assert result.shape == (10 + GAP + 3, 25, 3)
    assert (result[:10] == 7).all() and (result[-3:] == 9).all()


def test_mosaic_refuses_nothing():
    with pytest.raises(ValueError, match="at least one panel"):
        mosaic([])


def test_differences_are_red_and_void_is_none():
    truth = np.array([[0, 1, 255], [2, 2, 1]], np.uint8)
    pred = np.array([[0, 2, 1], [2, 0, 1]], np.uint8)
    marked = differences(IMAGE, truth, pred)
    is_red = (marked == (214, 39, 40)).all(axis=-1)
    assert is_red.tolist() == [[False, True, False], [False, True, False]]
    assert marked[0, 0].tolist() == [180, 180, 180]  # faint
    with pytest.raises(ValueError, match=r"pred \[1, 3\]"):
        differences(IMAGE, truth, pred[:1])


def test_save_predictions_adds_headings_and_a_legend(tmp_path):
    image = np.full((20, 100, 3), 128, np.uint8)
    label = np.zeros((20, 100), np.uint8)
    body = mosaic([panel(image, label, label, PALETTE)] * 2)
    path = tmp_path / "predictions.png"
    save_predictions(path, [panel(image, label, label, PALETTE)] * 2, NAMES, PALETTE)
    with Image.open(path) as file:
        page = np.asarray(file)
    assert page.shape[1:] == (body.shape[1], 3)
    start = next(y for y in range(len(page)) if (page[y, :100] == 128).all())
    np.testing.assert_array_equal(page[start : start + len(body)], body)
    head, legend = page[:start], page[start + len(body) :]
    for number in range(3):  # a word above every column
        column = head[:, number * (100 + GAP) : number * (100 + GAP) + 100]
        assert (column.min(axis=(0, 2)) < 128).sum() > 10
    for color in PALETTE:
        assert (legend == color).all(axis=-1).sum() > 50
    swatches = [np.argwhere((legend == c).all(axis=-1)).mean(axis=0) for c in PALETTE]
    for y, x in swatches:  # a name at the right of every swatch
        beside = legend[round(y) - 5 : round(y) + 6, round(x) + 12 : round(x) + 40]
        assert beside.min() < 100


def test_save_predictions_of_several_sizes(tmp_path):
    """Images as they come: the widest sets the width of the page."""
    panels = []
    for size in ((30, 100), (40, 20), (90, 60)):
        image = np.full((*size, 3), 128, np.uint8)
        label = np.zeros(size, np.uint8)
        panels.append(panel(image, label, label, PALETTE))
    save_predictions(tmp_path / "p.png", panels, NAMES, PALETTE)
    with Image.open(tmp_path / "p.png") as file:
        assert file.size[0] == 3 * 100 + 2 * GAP


def test_save_predictions_needs_a_name_for_every_colour(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match="2 class names but 3 colours"):
        save_predictions(tmp_path / "p.png", [image], NAMES[:2], PALETTE)
