import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data.classes import CITYSCAPES, train_id_table
from data.decode import decode_record
from data.sources.folder import Folder

CLASSES = train_id_table("abc", [(0, 0, 0)] * 3)


@pytest.mark.parametrize("extension", ["png", "jpg", "jpeg", "JPG"])
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


def test_labels_are_train_ids_even_with_the_cityscapes_table(write_folder):
    source = Folder(str(write_folder()), "train", CITYSCAPES)
    assert source.classes.names == CITYSCAPES.names
    assert source.classes.raw_to_train[1] == 1


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


def test_malformed_list_line_is_named(write_folder):
    root = write_folder()
    (root / "train.txt").write_text("images/train/2.png\n")
    with pytest.raises(ValueError, match=r"train\.txt:1: 'images/train/2\.png' is not"):
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


def test_no_images(tmp_path):
    (tmp_path / "images/train").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no images found"):
        Folder(str(tmp_path), "train", CLASSES)


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
