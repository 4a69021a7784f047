"""The table of scores by class."""

import pytest

from segnext_jax.visual import per_class_table
from segnext_jax.visual.tables import percent

NAN = float("nan")


def test_the_table_is_exact():
    table = per_class_table(
        ("road", "traffic light"), [0.9876, 0.5], [1.0, 0.25], [0.75, 0.25]
    )
    assert table.splitlines() == [
        "class          IoU %  accuracy %  pixels %",
        "------------------------------------------",
        "road           98.76      100.00     75.00",
        "traffic light  50.00       25.00     25.00",
        "------------------------------------------",
        "mean           74.38       62.50",
    ]


def test_nan_is_a_dash_and_not_in_the_mean():
    lines = per_class_table(
        ("a", "b", "c"), [0.2, NAN, 0.4], [NAN, NAN, 0.5], [0.5, 0.0, 0.5]
    ).splitlines()
    assert lines[3].split() == ["b", "–", "–", "0.00"]
    assert lines[-1].split() == ["mean", "30.00", "50.00"]


def test_a_mean_of_nothing_is_a_dash():
    lines = per_class_table(("a",), [NAN], [NAN], [0.0]).splitlines()
    assert lines[-1].split() == ["mean", "–", "–"]


def test_more_scores_are_columns_of_their_own():
    lines = per_class_table(
        ("a", "b"), [0.2, 0.4], [0.5, 0.7], [0.5, 0.5], {"Dice": [NAN, 0.25]}
    ).splitlines()
    assert lines[0].split()[::2] == ["class", "%", "%", "%", "%"]
    assert "accuracy %  Dice %  pixels %" in lines[0]
    assert lines[2].split() == ["a", "20.00", "50.00", "–", "50.00"]
    assert lines[-1].split() == ["mean", "30.00", "60.00", "25.00"]


def test_percent_of_what_is_missing():
    assert [percent(x) for x in (0.12345, NAN, None)] == ["12.35", "–", "–"]


def test_columns_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="got 2, 2, 1, 2"):
        per_class_table(("a", "b"), [0.1, 0.2], [0.1], [0.5, 0.5])
