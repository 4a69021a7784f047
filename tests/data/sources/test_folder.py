import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data.classes import parse_classes, train_id_table
from data.decode import decode_record
from data.sources.folder import Folder

CLASSES = train_id_table("abc", [(0, 0, 0)] * 3)


@pytest.mark.parametrize("extension", ["png", "jpg", "jpeg", "JPG", "bmp"])
def test_images_are_matched_to_labels_by_stem(write_folder, extension):
    root = write_folder(extension=extension)
    source = Folder(str(root), "train", CLASSES)
    assert len(source) == 3
    for i in range(3):
        image, label = decode_record(source[i], source.classes)
        np.testing.assert_allclose(image, np.full((20, 30, 3), i), atol=1)
        stored = np.asarray(Image.open(root / f"labels/train/{i}.png"))
        np.testing.assert_array_equal(label, stored)
        assert label[0, 0] == 255


def test_labels_hold_the_raw_ids_of_the_classes(write_folder):
    classes = parse_classes("1: b 0 0 0\n0,2: ac 0 0 0\n", "classes")
    source = Folder(str(write_folder()), "train", classes)
    stored = np.asarray(Image.open(source[0].label_name))
    _, label = decode_record(source[0], source.classes)
    np.testing.assert_array_equal(label, np.where(stored == 255, 255, stored != 1))


def test_folders_within_and_capital_extensions(write_folder):
    root = write_folder()
    for kind, extension in (("images", "png"), ("labels", "PNG")):
        (root / kind / "train/city.2/night").mkdir(parents=True)
        old, new = f"{kind}/train/1.png", f"{kind}/train/city.2/night/1.{extension}"
        (root / old).rename(root / new)
        (root / kind / "train/readme.md").write_text("")
    source = Folder(str(root), "train", CLASSES)
    assert source.pairs == [
        (f"{root}/images/train/{image}", f"{root}/labels/train/{label}")
        for image, label in [
            ("0.png", "0.png"),
            ("2.png", "2.png"),
            ("city.2/night/1.png", "city.2/night/1.PNG"),
        ]
    ]


def test_names_of_two_images_must_differ(write_folder):
    root = write_folder()
    (root / "images/train/1.png").rename(root / "images/train/0.jpg")
    with pytest.raises(ValueError, match=r"train has both 0\.jpg and 0\.png"):
        Folder(str(root), "train", CLASSES)


def test_labels_without_an_image_are_named(write_folder):
    root = write_folder(count=5)
    for name in ("1.png", "3.png"):
        (root / "images/train" / name).unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"2 of 5 labels have no image.*train/1\.png, /.*3\.png\. ",
    ):
        Folder(str(root), "train", CLASSES)


def test_list_file(write_folder):
    root = write_folder()
    (root / "train.txt").write_text(
        "images/train/2.png labels/train/2.png\n\n"
        "images/train/0.png\tlabels/train/1.png\n"
    )
    source = Folder(str(root), "train.txt", CLASSES)
    assert len(source) == 2
    assert source[0].name == str(root / "images/train/2.png")
    assert source[1].label_name == str(root / "labels/train/1.png")


def test_list_file_of_windows(write_folder):
    root = write_folder()
    lines = (
        r"images\train\2.png  labels\train\2.png",
        "images/train/0.png labels/train/1.png",
    )
    (root / "train.txt").write_bytes(
        "\r\n".join(("\ufeff" + lines[0], lines[1])).encode()
    )
    assert Folder(str(root), "train.txt", CLASSES).pairs == [
        (f"{root}/images/train/2.png", f"{root}/labels/train/2.png"),
        (f"{root}/images/train/0.png", f"{root}/labels/train/1.png"),
    ]


@pytest.mark.parametrize(
    "line", ["images/a b.PNG labels/c d.png", "images/a b.PNG\tlabels/c d.png"]
)
def test_list_file_with_spaces_in_names(write_folder, line):
    root = write_folder()
    (root / "images/train/0.png").rename(root / "images/a b.PNG")
    (root / "labels/train/0.png").rename(root / "labels/c d.png")
    (root / "train.txt").write_text(line)
    assert Folder(str(root), "train.txt", CLASSES).pairs == [
        (f"{root}/images/a b.PNG", f"{root}/labels/c d.png")
    ]


@pytest.mark.parametrize(
    "line",
    [
        "images/train/2.png",
        "images/train/2.png labels/train/2.gif",
        "a.png b.png c.png",  # a or a.png b.png?
        "a.png\tb.png\tc.png",
    ],
)
def test_malformed_list_line_is_named(write_folder, line):
    root = write_folder()
    (root / "train.txt").write_text(f"\n{line}\n")
    with pytest.raises(
        ValueError, match=r"train\.txt:2: '.*png.*' is not `image label`"
    ):
        Folder(str(root), "train.txt", CLASSES)


def test_list_naming_absent_files(write_folder):
    root = write_folder()
    (root / "train.txt").write_text(
        "images/train/9.png labels/train/0.png\nimages/train/0.png labels/train/0.png\n"
    )
    with pytest.raises(FileNotFoundError, match=r"1 of 2 image files.*train/9\.png"):
        Folder(str(root), "train.txt", CLASSES)


def test_missing_list_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"val\.txt.*config\.data\.root"):
        Folder(str(tmp_path), "val.txt", CLASSES)


def test_missing_folder_and_missing_label(write_folder):
    root = write_folder()
    with pytest.raises(FileNotFoundError, match=r"images/val\..*config\.data\.root"):
        Folder(str(root), "val", CLASSES)
    (root / "labels/train/1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 3 label files.*train/1\.png"):
        Folder(str(root), "train", CLASSES)


def test_folder_of_labels_missing(write_folder):
    root = write_folder()
    (root / "labels").rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match="3 of 3 label files"):
        Folder(str(root), "train", CLASSES)


def test_no_images(tmp_path):
    (tmp_path / "images/train").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no images found"):
        Folder(str(tmp_path), "train", CLASSES)
    (tmp_path / "train.txt").write_text("\n")
    with pytest.raises(FileNotFoundError, match="no images found"):
        Folder(str(tmp_path), "train.txt", CLASSES)


@pytest.mark.parametrize("scheme", ["ram://dataset", "file://{tmp_path}/remote"])
def test_paths_need_not_be_local(write_folder, tmp_path, scheme):
    """ram:// is TensorFlow's file system in memory; gs:// goes the same way."""
    local, root = write_folder(), scheme.format(tmp_path=tmp_path)
    for path in [*local.glob("images/train/*"), *local.glob("labels/train/*")]:
        target = f"{root}/{path.relative_to(local)}"
        tf.io.gfile.makedirs(target.rsplit("/", 1)[0])
        with tf.io.gfile.GFile(target, "wb") as file:
            file.write(path.read_bytes())
    there, here = Folder(root, "train", CLASSES), Folder(str(local), "train", CLASSES)
    assert len(there) == 3
    assert there[1].name == f"{root}/images/train/1.png"
    assert (there[1].image, there[1].label) == (here[1].image, here[1].label)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        Folder(root, "val", CLASSES)
