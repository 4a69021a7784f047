import numpy as np
import pytest

from data.classes import IGNORE_LABEL, ClassTable, parse_classes, train_id_table

COLOURED = "0: ignore 0 0 0\n4, 6-8: wall 70 70 70\n9: road 128 64 128\n"


def test_train_id_table_is_the_identity():
    table = train_id_table("ab", [(1, 2, 3)] * 2)
    assert (table.names, table.num_classes) == (("a", "b"), 2)
    stored = np.array([[0, 1, 255]], np.uint8)
    label = table.to_train_ids(stored, "file")
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, stored)


def test_illegal_ids_are_named_with_the_file_and_the_legal_range():
    table = parse_classes(COLOURED, "classes")
    with pytest.raises(
        ValueError, match=r"a\.png: label ids 5, 200 .*2 cl.* 0, 4, 6\.\.9, 255\. "
    ):
        table.to_train_ids(np.array([[9, 200, 5, 200]], np.uint8), "a.png")


def test_many_illegal_ids_are_cut_short():
    with pytest.raises(ValueError, match=r"label ids 1, 2, 3, .*, 10, … are outside"):
        table = train_id_table("a", [(0, 0, 0)])
        table.to_train_ids(np.arange(100, dtype=np.uint8)[np.newaxis], "a.png")


def test_ids_of_16_bits():
    table = parse_classes(COLOURED, "classes")
    label = table.to_train_ids(np.array([[0, 4, 9, 255]], np.uint16), "a.png")
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, [[255, 0, 1, 255]])
    # 260 % 256 is 4: it must not pass for it.
    with pytest.raises(ValueError, match="label ids 5, 260, 65535 are outside"):
        table.to_train_ids(np.array([[9, 65535, 260, 5]], np.uint16), "a.png")


def test_colours():
    table = parse_classes(COLOURED, "classes", colour_labels=True)
    colours = np.array([[(70, 70, 70), (128, 64, 128), (0, 0, 0)]] * 2, np.uint8)
    label = table.to_train_ids(colours, "a.png")
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, [[0, 1, 255]] * 2)
    # The same table reads ids too.
    ids = np.array([[6, 9, 0]], np.uint8)
    np.testing.assert_array_equal(table.to_train_ids(ids, "b.png"), [[0, 1, 255]])
    # Each channel counts, and its place.
    colours[1, 2], colours[0, 1] = (0, 0, 1), (128, 128, 64)
    with pytest.raises(
        ValueError,
        match=r"a\.png: label colours \(0, 0, 1\), \(128, 128, 64\) .*\(70, 70, 70\)",
    ):
        table.to_train_ids(colours, "a.png")


@pytest.mark.parametrize("colour_labels", [False, True])
def test_colours_are_refused_where_labels_hold_ids(colour_labels):
    text = COLOURED.replace("128 64 128", "70 70 70")  # ambiguous, so no colours
    table = parse_classes(
        text if colour_labels else COLOURED, "classes", colour_labels=colour_labels
    )
    with pytest.raises(ValueError, match=r"a\.png: an RGB image; .* 0, 4, 6\.\.9, 255"):
        table.to_train_ids(np.zeros((2, 3, 3), np.uint8), "a.png")


def test_classes_in_order():
    table = parse_classes("grass 0 255 0\n\nstop sign 255 0 10\r\n", "classes")
    assert table.names == ("grass", "stop sign")
    assert table.palette == ((0, 255, 0), (255, 0, 10))
    assert table.raw_to_train == {0: 0, 1: 1, 255: IGNORE_LABEL}
    assert table.colour_to_train == {}


def test_classes_with_ids():
    table = parse_classes(
        "7: road 1 2 3\n0-2,11 :ignore\n 3 , 5 : a: b 4 5 6", "classes"
    )
    assert table.names == ("road", "a: b")
    ignored = dict.fromkeys([0, 1, 2, 11, 255], IGNORE_LABEL)
    assert table.raw_to_train == {7: 0, 3: 1, 5: 1, **ignored}


def test_ids_may_be_ignored_where_classes_have_none():
    table = parse_classes("a 1 1 1\nb 2 2 2\n2: ignore\n", "classes")
    assert table.raw_to_train == {0: 0, 1: 1, 2: IGNORE_LABEL, 255: IGNORE_LABEL}


def test_255_can_be_a_class():
    table = parse_classes("0: a 1 1 1\n255: b 2 2 2\n", "classes")
    assert table.raw_to_train == {0: 0, 255: 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grass 0 255\n", ":1: 'grass 0 255' is not `name r g b`"),
        ("a 0 0 0\nb 0 0 256\n", ":2: 'b 0 0 256' is not `name r g b`"),
        ("a 0 0 0\na 1 1 1\n", ":2: class 'a' occurs twice"),
        ("1: a 0 0 0\n\nb 1 1 1\n", ":3: give ids for every class, or for none"),
        ("1: a 0 0 0\n0-1: ignore\n", ":2: id 1 occurs twice"),
        ("a 0 0 0\n0: ignore\n", ":2: id 0 occurs twice"),
        ("1,: a 0 0 0\n", ":1: '' in '1,' is no id"),
        ("256: a 0 0 0\n", ":1: '256' in '256' is no id.*within 0-255"),
        ("3-1: a 0 0 0\n", ":1: '3-1' in '3-1' is no id"),
        ("\n0: ignore\n", "classes: no classes"),
    ],
)
def test_malformed_class_files_are_refused(text, message):
    with pytest.raises(ValueError, match=f"^classes{message}|^{message}"):
        parse_classes(text, "classes")


def test_tables_must_be_contiguous():
    colours = ((0, 0, 0), (1, 1, 1))
    with pytest.raises(ValueError, match=r"0\.\.1, all used"):
        ClassTable(("a", "b"), colours, {0: 0, 1: 2})
    with pytest.raises(ValueError, match=r"0\.\.1, all used"):
        ClassTable(("a", "b"), colours, {0: 0, 1: 1}, {(0, 0, 0): 0})
    with pytest.raises(ValueError, match="2 colours, 1 names"):
        ClassTable(("a",), colours, {0: 0})
    with pytest.raises(ValueError, match="254 classes; 1 to 253 fit"):
        train_id_table(map(str, range(254)), [(0, 0, 0)] * 254)
