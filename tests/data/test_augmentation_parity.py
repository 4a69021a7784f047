"""Scale, crop and padding against mmsegmentation's and PaddleSeg's, on given draws.

The goldens are written by `python -m tools.golden`.
"""

import zlib
from pathlib import Path

import numpy as np
import pytest

from data import transforms
from data.transforms import CropRecipe

GOLDEN = Path(__file__).parent / "golden"
PEERS = {
    name: dict(np.load(GOLDEN / f"augment_{name}.npz")) for name in ("mmseg", "paddle")
}
CASES = [
    (peer, key.removesuffix("/draws"))
    for peer, golden in PEERS.items()
    for key in golden
    if key.endswith("/draws") and not key.startswith("places/")
]
cases = pytest.mark.parametrize(("peer", "case"), CASES)


def make_recipe(peer, crop_size, max_class_ratio, resize_to=()):
    return CropRecipe(
        crop_size=tuple(crop_size),
        resize_to=tuple(resize_to),
        scale_range=(0.5, 2.0),
        scale_step=0.25 if peer == "paddle" else 0.0,
        max_class_ratio=float(max_class_ratio),
        rare_classes=(),
        rare_class_probability=0.0,
        pad="before_crop" if peer == "paddle" else "after_distortion",
    )


def place_crop(draws, label, recipe):
    no_rare_class = np.zeros(3)
    return transforms.place_crop(np.append(draws, no_rare_class), label, recipe)


def fields_of(peer, case):
    """(golden of the case, recipe, image, label)."""
    whole = PEERS[peer]
    golden = {
        key.removeprefix(f"{case}/"): x
        for key, x in whole.items()
        if key.startswith(f"{case}/")
    }
    recipe = make_recipe(
        peer, golden["crop_size"], golden["max_class_ratio"], golden["resize_to"]
    )
    return golden, recipe, whole["image"], whole[str(golden["label_name"])]


@cases
def test_scale_and_offset_are_the_peers(peer, case):
    golden, recipe, _, label = fields_of(peer, case)
    crop = place_crop(golden["draws"], label, recipe)
    np.testing.assert_array_equal(crop.scaled_size, golden["scaled_size"])
    np.testing.assert_array_equal(crop.offset, golden["offset"])


@cases
def test_crop_of_the_label_is_the_peers(peer, case):
    golden, recipe, _, label = fields_of(peer, case)
    crop = place_crop(golden["draws"], label, recipe)
    actual = np.asarray(transforms.crop_label(label, crop, recipe))
    h, w = golden["label"].shape  # mmsegmentation pads later
    np.testing.assert_array_equal(actual[:h, :w], golden["label"])
    assert (np.delete(actual, np.s_[:h], 0) == 255).all()
    assert (np.delete(actual, np.s_[:w], 1) == 255).all()


@cases
def test_crop_of_the_image_is_the_peers(peer, case):
    golden, recipe, image, label = fields_of(peer, case)
    crop = place_crop(golden["draws"], label, recipe)
    actual = np.asarray(transforms.crop_image(image, crop, recipe))
    h, w = golden["image"].shape[:2]
    assert not np.delete(actual, np.s_[:h], 0).any()
    assert not np.delete(actual, np.s_[:w], 1).any()
    difference = np.abs(actual[:h, :w] - golden["image"].astype(int))
    assert difference.max() <= 1
    # Both scale by OpenCV, whose builds agree on uint8, but not on float32, which
    # PaddleSeg scales and then truncates.
    assert np.mean(difference > 0) <= {"mmseg": 0, "paddle": 0.002}[peer]


@pytest.mark.parametrize("peer", PEERS)
def test_many_crops_of_many_sizes_are_the_peers(peer):
    golden = PEERS[peer]
    names = ("draws", "image_size", "scaled_size", "offset", "label")
    columns = (golden[f"places/{name}"] for name in names)
    for draws, (h, w), scaled_size, offset, checksum in zip(*columns, strict=True):
        label = golden["scene"][:h, :w]
        resize_to = (48, 96) if peer == "mmseg" else ()
        recipe = make_recipe(peer, (24, 40), 0.75, resize_to)
        crop = place_crop(draws, label, recipe)
        np.testing.assert_array_equal(crop.scaled_size, scaled_size)
        np.testing.assert_array_equal(crop.offset, offset)
        cropped = np.asarray(transforms.crop_label(label, crop, recipe))
        if peer == "mmseg":  # which pads later
            h, w = np.minimum(scaled_size - offset, (24, 40))
            cropped = np.ascontiguousarray(cropped[:h, :w])
        assert zlib.crc32(cropped.tobytes()) == checksum


@pytest.mark.parametrize("peer", PEERS)
def test_goldens_hold_what_is_hard(peer):
    goldens = [fields_of(peer, case)[0] for other, case in CASES if other == peer]
    scaled_sizes = np.array([g["scaled_size"] for g in goldens])
    assert (scaled_sizes > (75, 141)).all(1).any()  # enlarged
    assert (scaled_sizes < (75, 141)).all(1).any()  # shrunk
    too_small = [(g["scaled_size"] < g["crop_size"]).sum() for g in goldens]
    assert set(too_small) == {0, 1, 2}  # not padded, on one side, on both
    num_tested = {int(g["num_tested"]) for g in goldens}
    assert {0, 1, 10} < num_tested  # no rule, passed at once, never; and in between
    assert any((g["label"] == 255).mean() > 0.5 for g in goldens)
