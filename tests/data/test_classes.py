import numpy as np
import pytest

from data import classes
from data.classes import CAMVID, CITYSCAPES, ClassTable, load_classes

# cityscapesScripts labels.py: raw id, name, colour, in the order of the train ids.
PUBLISHED = [
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
]


def test_cityscapes_is_the_published_table():
    assert CITYSCAPES.names == tuple(name for _, name, _ in PUBLISHED)
    assert CITYSCAPES.palette == tuple(colour for _, _, colour in PUBLISHED)
    assert CITYSCAPES.num_classes == 19


def test_every_cityscapes_raw_id_gets_its_train_id():
    stored = np.array([*range(34), 255], np.uint8)[np.newaxis]  # -1 is stored as 255
    train_id = {raw_id: i for i, (raw_id, _, _) in enumerate(PUBLISHED)}
    expected = [[train_id.get(int(raw_id), 255) for raw_id in stored[0]]]
    label = CITYSCAPES.to_train_ids(stored, "file")
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, expected)
    assert sorted(CITYSCAPES.raw_to_train) == list(range(-1, 34))


def test_illegal_ids_are_named_with_the_file_and_the_legal_range():
    raw_label = np.array([[7, 34, 200, 34]], np.uint8)
    with pytest.raises(ValueError, match=r"a\.png: label ids 34, 200 .*-1\.\.33"):
        CITYSCAPES.to_train_ids(raw_label, "a.png")
    with pytest.raises(ValueError, match=r"b\.png: label ids 11 .*0\.\.10, 255"):
        CAMVID.to_train_ids(np.array([[10, 11]], np.uint8), "b.png")


def test_camvid_holds_train_ids():
    assert CAMVID.names[:4] == ("sky", "building", "pole", "road")
    assert CAMVID.num_classes == len(set(CAMVID.palette)) == 11
    label = np.array([[*range(11), 255]], np.uint8)
    np.testing.assert_array_equal(CAMVID.to_train_ids(label, "file"), label)


def test_load_classes_by_name():
    assert load_classes("cityscapes") is CITYSCAPES
    assert load_classes("camvid") is CAMVID


def test_class_file(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("grass 0 255 0\n\nstop sign 255 0 10\n")
    table = load_classes(str(path))
    assert table.names == ("grass", "stop sign")
    assert table.palette == ((0, 255, 0), (255, 0, 10))
    assert table.raw_to_train == {0: 0, 1: 1, 255: classes.IGNORE_LABEL}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grass 0 255\n", ":1: 'grass 0 255' is not"),
        ("a 0 0 0\nb 0 0 256\n", ":2: 'b 0 0 256' is not"),
        ("a 0 0 0\na 1 1 1\n", ":2: class 'a' occurs twice"),
        ("\n", "no classes"),
    ],
)
def test_malformed_class_files_are_refused(tmp_path, text, message):
    path = tmp_path / "classes.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_classes(str(path))


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(FileNotFoundError, match=r"'citiscapes'.*camvid, cityscapes"):
        load_classes("citiscapes")


def test_tables_must_be_contiguous():
    colours = ((0, 0, 0), (1, 1, 1))
    with pytest.raises(ValueError, match=r"0\.\.1, all used"):
        ClassTable(("a", "b"), colours, {0: 0, 1: 2})
    with pytest.raises(ValueError, match="2 colours, 1 names"):
        ClassTable(("a",), colours, {0: 0})
