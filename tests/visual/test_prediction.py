import numpy as np

from segnext_jax.visual.prediction import add_legend, class_shares, shares_table

NAMES = ("sky", "<road>", "car")
PALETTE = ((70, 130, 180), (128, 64, 128), (0, 0, 142))


def test_shares_are_of_all_pixels():
    pred = np.zeros((4, 5), np.uint8)
    pred[:2] = 2
    pred[3, 0] = 1
    np.testing.assert_allclose(class_shares(pred, 3), [0.45, 0.05, 0.5])
    assert class_shares(pred, 7).shape == (7,)


def test_table_has_what_occurs_largest_first():
    table = shares_table(np.array([0.25, 0.75, 0.0]), NAMES, PALETTE)
    assert table.index("&lt;road&gt;") < table.index("75.00 %") < table.index("sky")
    assert "width:33.3%;background:#4682b4" in table
    assert "car" not in table and "<road>" not in table


def test_legend_is_below_the_picture():
    picture = np.full((40, 300, 3), 9, np.uint8)
    with_two = add_legend(picture, [0, 2], NAMES, PALETTE)
    np.testing.assert_array_equal(with_two[:40], picture)
    legend = with_two[40:].reshape(-1, 3).tolist()
    assert list(PALETTE[0]) in legend and list(PALETTE[2]) in legend
    assert list(PALETTE[1]) not in legend
