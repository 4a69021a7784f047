"""The class tables of all datasets, against facts that their authors publish."""

from collections import Counter

import numpy as np
import pytest

from data.sources import SOURCES

# cityscapesScripts labels.py: raw id, name, colour, in the order of the train ids.
CITYSCAPES_LABELS = [
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
# Of every dataset its number of classes, which raw ids do not count, and some classes:
# raw id, train id, name, colour. From the devkits, and mmsegmentation's METAINFO.
FACTS = {
    "ade20k": (
        150,
        {0, 255},
        [
            (1, 0, "wall", (120, 120, 120)),
            (8, 7, "bed", (204, 5, 255)),
            (13, 12, "person", (150, 5, 61)),
            (150, 149, "flag", (92, 0, 255)),
        ],
    ),
    "camvid": (
        11,
        {11, 255},
        [
            (0, 0, "sky", (128, 128, 128)),
            (3, 3, "road", (128, 64, 128)),
            (10, 10, "bicyclist", (0, 128, 192)),
        ],
    ),
    "cityscapes": (
        19,
        {-1, *range(34)} - {raw_id for raw_id, _, _ in CITYSCAPES_LABELS},
        [(raw, i, *row) for i, (raw, *row) in enumerate(CITYSCAPES_LABELS)],
    ),
    "coco_stuff": (
        171,
        {255},
        [
            (0, 0, "person", (0, 192, 64)),
            (10, 10, "fire hydrant", (128, 32, 192)),
            (12, 11, "stop sign", (0, 0, 224)),
            (89, 79, "toothbrush", (192, 160, 0)),
            (91, 80, "banner", (0, 192, 0)),
            (148, 137, "road", (192, 128, 128)),
            (181, 170, "wood", (64, 64, 0)),
        ],
    ),
    "isaid": (
        16,
        {255},
        [
            (0, 0, "background", (0, 0, 0)),
            (1, 1, "ship", (0, 0, 63)),
            (15, 15, "Harbor", (0, 100, 155)),
        ],
    ),
    "loveda": (
        7,
        {0, 255},
        [
            (1, 0, "background", (255, 255, 255)),
            (7, 6, "agricultural", (255, 195, 128)),
        ],
    ),
    "pascal_context_59": (
        59,
        {0, 255},
        [
            (1, 0, "aeroplane", (180, 120, 120)),
            (59, 58, "wood", (31, 0, 255)),
        ],
    ),
    "pascal_context_60": (
        60,
        {255},
        [
            (0, 0, "background", (120, 120, 120)),
            (1, 1, "aeroplane", (180, 120, 120)),
            (59, 59, "wood", (31, 0, 255)),
        ],
    ),
    "voc2012": (
        21,
        {255},
        [
            (0, 0, "background", (0, 0, 0)),
            (15, 15, "person", (192, 128, 128)),
            (20, 20, "tvmonitor", (0, 64, 128)),
        ],
    ),
}
SAME = {
    "ade20k_tfds": "ade20k",
    "cityscapes_tfds": "cityscapes",
    "street_scenes": "cityscapes",
}
# Colours that mmsegmentation gives to several classes, with how many those are.
SHARED_COLOURS = {
    "ade20k": {(140, 140, 140): 2},
    "pascal_context_59": {(140, 140, 140): 2},
    "pascal_context_60": {(140, 140, 140): 2},
    "coco_stuff": {
        (0, 0, 64): 2,
        (0, 64, 96): 2,
        (0, 192, 64): 2,
        (128, 0, 96): 2,
        (128, 0, 192): 2,
        (128, 128, 224): 2,
        (128, 192, 64): 3,
        (128, 192, 192): 2,
    },
}
# Ids of COCO for which there is no thing in its images, less one, as in the labels.
COCO_GAPS = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}

every_table = pytest.mark.parametrize("name", FACTS)


def test_every_source_has_its_facts():
    assert SOURCES.keys() == FACTS.keys() | SAME.keys()
    for name, other in SAME.items():
        table, expected = SOURCES[name].classes, SOURCES[other].classes
        assert (table.names, table.palette) == (expected.names, expected.palette)
        assert table.raw_to_train == expected.raw_to_train


@every_table
def test_table_has_the_published_classes(name):
    num_classes, ignored, rows = FACTS[name]
    table = SOURCES[name].classes
    assert table.num_classes == len(table.names) == len(table.palette) == num_classes
    for raw_id, train_id, class_name, colour in rows:
        assert table.raw_to_train[raw_id] == train_id
        assert (table.names[train_id], table.palette[train_id]) == (class_name, colour)
    assert {raw for raw, train in table.raw_to_train.items() if train == 255} == ignored
    # In the order of the raw ids, one for each class.
    counted = sorted(table.raw_to_train.keys() - ignored)
    assert [table.raw_to_train[i] for i in counted] == list(range(num_classes))


@every_table
def test_every_raw_id_of_a_label(name):
    table = SOURCES[name].classes
    stored = np.arange(256, dtype=np.uint8)
    by_stored_id = {raw % 256: train for raw, train in table.raw_to_train.items()}
    legal = stored[np.isin(stored, list(by_stored_id))].reshape(1, -1)
    expected = [[by_stored_id[raw] for raw in legal[0]]]
    np.testing.assert_array_equal(table.to_train_ids(legal, "file"), expected)
    illegal = sorted(set(stored.tolist()) - by_stored_id.keys())
    with pytest.raises(
        ValueError, match=f"x.png: label ids {illegal[0]}, {illegal[1]}"
    ):
        table.to_train_ids(stored.reshape(1, -1), "x.png")


@every_table
def test_names_and_colours_are_distinct(name):
    table = SOURCES[name].classes
    assert len(set(table.names)) == table.num_classes
    assert all(x == x.strip() != "" for x in table.names)
    shared = {c: n for c, n in Counter(table.palette).items() if n > 1}
    assert shared == SHARED_COLOURS.get(name, {})


def test_the_gaps_of_coco_are_illegal():
    raw_ids = SOURCES["coco_stuff"].classes.raw_to_train.keys()
    assert set(range(182)) - raw_ids == COCO_GAPS


def test_only_isaid_has_labels_of_colours():
    assert [name for name, x in SOURCES.items() if x.classes.colour_to_train] == [
        "isaid"
    ]
    table = SOURCES["isaid"].classes
    colours = np.array([table.palette], np.uint8)
    np.testing.assert_array_equal(table.to_train_ids(colours, "f"), [range(16)])
