import pytest

from segnext_jax.visual.palette import match_palette

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def test_colours_follow_the_classes():
    colours = match_palette(["sky", "road"], ["road", "sky"], [RED, BLUE], "my.txt")
    assert colours == [BLUE, RED]


def test_wrong_count_names_both():
    with pytest.raises(ValueError, match=r"my\.txt has 3 colours.* 2 classes: sky, ro"):
        match_palette(["sky", "road"], ["a", "b", "c"], [RED, GREEN, BLUE], "my.txt")


def test_other_names_are_named():
    with pytest.raises(ValueError, match=r"my\.txt has colours for street.* its road"):
        match_palette(["sky", "road"], ["sky", "street"], [RED, BLUE], "my.txt")
