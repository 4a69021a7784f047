"""Sources of files read small trees with the folders and names of the real ones."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.decode import decode_label, decode_record
from data.sources import SOURCES, make_source
from data.sources.isaid import ISAID
from data.sources.voc2012 import VOC2012

# Source and split: its files, in order; and others that may lie beside them.
LAYOUTS = {
    ("ade20k", "training"): (
        [
            (
                "images/training/ADE_train_00000001.jpg",
                "annotations/training/ADE_train_00000001.png",
            ),
            (
                "images/training/ADE_train_00000002.jpg",
                "annotations/training/ADE_train_00000002.png",
            ),
        ],
        ["objectInfo150.txt", "images/validation/ADE_val_00000001.jpg"],
    ),
    ("camvid", "test"): (
        [
            ("test/0001TP_008550.png", "testannot/0001TP_008550.png"),
            ("test/Seq05VD_f00000.png", "testannot/Seq05VD_f00000.png"),
        ],
        ["test.txt", "train/0001TP_006690.png", "trainannot/0001TP_006690.png"],
    ),
    ("coco_stuff", "val2017"): (
        [
            (
                "images/val2017/000000000139.jpg",
                "annotations/val2017/000000000139.png",
            ),
            (
                "images/val2017/000000000285.jpg",
                "annotations/val2017/000000000285.png",
            ),
        ],
        ["annotations/val2017/000000000139_labelTrainIds.png"],
    ),
    ("isaid", "train"): (
        [
            (
                "img_dir/train/P0000_0_896_0_896.png",
                "ann_dir/train/P0000_0_896_0_896_instance_color_RGB.png",
            ),
            (
                "img_dir/train/P0000_0_896_1024_1920.png",
                "ann_dir/train/P0000_0_896_1024_1920_instance_color_RGB.png",
            ),
        ],
        ["ann_dir/train/P0000_0_896_0_896_instance_id_RGB.png"],
    ),
    ("loveda", "Val"): (
        [
            (
                "Val/Urban/images_png/3514.png",
                "Val/Urban/masks_png/3514.png",
            ),
            (
                "Val/Rural/images_png/2522.png",
                "Val/Rural/masks_png/2522.png",
            ),
            (
                "Val/Rural/images_png/2523.png",
                "Val/Rural/masks_png/2523.png",
            ),
        ],
        ["Train/Urban/images_png/1366.png", "Val/Urban/images_png/Thumbs.db"],
    ),
    **{
        (f"pascal_context_{n}", "train"): (
            [
                (
                    "JPEGImages/2008_000002.jpg",
                    "SegmentationClassContext/2008_000002.png",
                ),
                (
                    "JPEGImages/2007_000033.jpg",
                    "SegmentationClassContext/2007_000033.png",
                ),
            ],
            ["JPEGImages/2009_000001.jpg"],
        )
        for n in (59, 60)
    },
    ("voc2012", "train"): (
        [
            ("JPEGImages/2007_000032.jpg", "SegmentationClass/2007_000032.png"),
            ("JPEGImages/2007_000039.jpg", "SegmentationClass/2007_000039.png"),
        ],
        ["JPEGImages/2007_000027.jpg", "SegmentationObject/2007_000032.png"],
    ),
}
LISTS = {
    "pascal_context_59": "ImageSets/SegmentationContext/train.txt",
    "pascal_context_60": "ImageSets/SegmentationContext/train.txt",
    "voc2012": "ImageSets/Segmentation/train.txt",
}

every_layout = pytest.mark.parametrize(
    ("name", "split"), LAYOUTS, ids=[name for name, _ in LAYOUTS]
)


@pytest.fixture
def write_layout(tmp_path, data_config):
    """Writes a layout, labels with all raw ids; returns the config and the pairs."""

    def write(name, split):
        pairs, others = LAYOUTS[name, split]
        raw_ids = all_raw_ids(name)
        for number, (image, label) in enumerate(pairs):
            save(tmp_path / image, np.full((*raw_ids.shape, 3), number, np.uint8))
            save(tmp_path / label, np.roll(raw_ids, number))
        for other in others:
            (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / other).write_bytes(b"of no concern")
        if name in LISTS:
            stems = [Path(image).stem for image, _ in pairs]
            write_list(tmp_path / LISTS[name], stems)
        data_config.update(source=name, root=str(tmp_path))
        return data_config, pairs

    return write


def all_raw_ids(name):
    return np.array([sorted(SOURCES[name].classes.raw_to_train)], np.uint8)


def write_list(path, stems):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{stem}\r\n" for stem in stems).encode())


def save(path: Path, array, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@every_layout
def test_images_are_paired_with_their_labels(name, split, write_layout):
    data_config, pairs = write_layout(name, split)
    source = make_source(data_config, split)
    assert [source.pairs[i] for i in range(len(source))] == [
        (f"{data_config.root}/{image}", f"{data_config.root}/{label}")
        for image, label in pairs
    ]
    to_train = source.classes.raw_to_train
    for number, record in enumerate(source[i] for i in range(len(source))):
        image, label = decode_record(record, source.classes)
        np.testing.assert_allclose(image, number, atol=1)
        raw = np.roll(all_raw_ids(name), number)
        np.testing.assert_array_equal(label, np.vectorize(to_train.get)(raw))


@every_layout
def test_missing_label_is_named(name, split, write_layout):
    data_config, pairs = write_layout(name, split)
    (Path(data_config.root) / pairs[1][1]).unlink()
    with pytest.raises(
        FileNotFoundError, match=f"1 of {len(pairs)} label.*{pairs[1][1]}"
    ):
        make_source(data_config, split)


@every_layout
def test_missing_data_says_the_layout_and_the_key(name, split, data_config, tmp_path):
    data_config.update(source=name, root=str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        make_source(data_config, split)
    folders = {
        str(Path(path).parent) for pair in LAYOUTS[name, split][0] for path in pair
    }
    message = str(error.value).replace("{Urban,Rural}", "Urban")
    assert f"config.data.root = {str(tmp_path)!r}" in message
    assert all(folder.replace("Rural", "Urban") in message for folder in folders)


@every_layout
def test_folders_without_images(name, split, data_config, tmp_path):
    for image, _ in LAYOUTS[name, split][0]:
        (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
    if name in LISTS:
        write_list(tmp_path / LISTS[name], [])
    data_config.update(source=name, root=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no images found.*config\.data\.root"):
        make_source(data_config, split)


def test_files_that_macos_adds_are_no_images(write_layout):
    data_config, pairs = write_layout("ade20k", "training")
    root = Path(data_config.root)
    (root / "images/training/._ADE_train_00000001.jpg").write_bytes(b"resource fork")
    assert len(make_source(data_config, "training")) == len(pairs)


@pytest.fixture
def voc_root(tmp_path):
    """Train has a and b, val has c, SBD labels all but b, and labels d and e anew."""
    for stem in "abcde":
        save(tmp_path / f"JPEGImages/{stem}.jpg", np.zeros((2, 2, 3), np.uint8))
    labels = {"SegmentationClass": "abc", "SegmentationClassAug": "acde"}
    for folder, stems in labels.items():
        for stem in stems:
            save(tmp_path / f"{folder}/{stem}.png", np.zeros((2, 2), np.uint8))
    lists = {"train": "ab", "val": "c", "trainval": "abc", "aug": "de"}
    for split, stems in {**lists, "trainaug": "eadb"}.items():
        write_list(tmp_path / f"ImageSets/Segmentation/{split}.txt", stems)
    return tmp_path


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", "a b"),
        ("val", "c"),
        ("trainval", "a b c"),
        ("aug", "d+ e+"),
        ("trainaug", "a b d+ e+"),
    ],
)
def test_splits_of_voc(voc_root, split, expected):
    assert label_stems(VOC2012(str(voc_root), split)) == expected


def test_trainaug_of_voc_without_aug(voc_root):
    (voc_root / "ImageSets/Segmentation/aug.txt").unlink()
    assert label_stems(VOC2012(str(voc_root), "trainaug")) == "a b e+ d+"
    (voc_root / "ImageSets/Segmentation/trainaug.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"trainaug\.txt.*SegmentationClassAug"):
        VOC2012(str(voc_root), "trainaug")


def label_stems(source):
    """Stems in the order of the source, with a plus where the label is SBD's."""
    paths = [Path(source[i].label_name) for i in range(len(source))]
    return " ".join(x.stem + "+" * (x.parent.name[-3:] == "Aug") for x in paths)


def test_lists_of_voc_of_one_class_have_a_second_column(voc_root):
    path = voc_root / "ImageSets/Segmentation/car_val.txt"
    path.write_text("c  1\na -1\n")
    assert label_stems(VOC2012(str(voc_root), "car_val")) == "c a"


@pytest.mark.parametrize("kind", ["colours", "ids", "palette"])
def test_both_kinds_of_isaid_labels(tmp_path, kind):
    """iSAID_Devkit's split.py keeps colours; mmsegmentation writes ids, and a BMP."""
    train_ids = np.arange(16, dtype=np.uint8).reshape(2, 8)
    label = (
        train_ids
        if kind != "colours"
        else np.array(ISAID.classes.palette, np.uint8)[train_ids]
    )
    picture = Image.fromarray(label)
    if kind == "palette":
        picture.putpalette(list(range(256)) * 3)
    image = np.arange(48, dtype=np.uint8).reshape(2, 8, 3)
    save(tmp_path / "img_dir/val/P0003_0_2_0_8.png", image, format="BMP")
    path = tmp_path / "ann_dir/val/P0003_0_2_0_8_instance_color_RGB.png"
    path.parent.mkdir(parents=True)
    picture.save(path)
    source = ISAID(str(tmp_path), "val")
    raw = decode_label(source[0].label, "label")
    assert raw.ndim == (3 if kind == "colours" else 2)
    decoded, label = decode_record(source[0], source.classes)
    np.testing.assert_array_equal(decoded, image)
    np.testing.assert_array_equal(label, train_ids)
