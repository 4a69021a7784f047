from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.decode import decode_record
from data.sources.cityscapes import Cityscapes


def test_frames_are_sorted_and_paired(write_cityscapes):
    root = write_cityscapes()
    source = Cityscapes(str(root), "train")
    names = [source[i].name for i in range(len(source))]
    assert len(names) == 7 and names == sorted(names)
    for i in range(7):
        image = Path(source[i].name)
        frame = image.name.removesuffix("_leftImg8bit.png")
        label = root / f"gtFine/train/{image.parent.name}/{frame}_gtFine_labelIds.png"
        assert source[i].label_name == str(label)
        assert source[i].image == image.read_bytes()
        assert source[i].label == label.read_bytes()


def test_decoded_record_equals_pillow(write_cityscapes):
    source = Cityscapes(str(write_cityscapes(size=(9, 12))), "train")
    image, label = decode_record(source[5], source.classes)
    np.testing.assert_array_equal(image, np.full((9, 12, 3), 5))
    raw_label = np.asarray(Image.open(source[5].label_name))
    to_train = np.vectorize(source.classes.raw_to_train.get)
    np.testing.assert_array_equal(label, to_train(raw_label))


def test_other_files_and_splits_are_left_alone(write_cityscapes):
    root = write_cityscapes(count=2)
    write_cityscapes(count=4, split="val")
    (root / "leftImg8bit/train/license.txt").write_text("")
    (root / "leftImg8bit/train/aachen/Thumbs.db").write_text("")
    assert len(Cityscapes(str(root), "train")) == 2
    assert len(Cityscapes(str(root), "val")) == 4


def test_missing_folder_is_named_with_layout_and_key(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        Cityscapes(str(tmp_path), "train")
    for part in (
        str(tmp_path / "leftImg8bit" / "train"),
        "config.data.root",
        "gtFine/train/<city>/*_gtFine_labelIds.png",
    ):
        assert part in str(error.value)


def test_no_images(tmp_path):
    (tmp_path / "leftImg8bit/train/aachen").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"no images found.*config\.data\.root"):
        Cityscapes(str(tmp_path), "train")


def test_images_without_label_are_counted_and_named(write_cityscapes):
    root = write_cityscapes()
    labels = sorted(root.glob("gtFine/train/*/*.png"))
    for path in labels[:5]:
        path.unlink()
    with pytest.raises(FileNotFoundError, match="5 of 7 label files") as error:
        Cityscapes(str(root), "train")
    assert str(labels[2]) in str(error.value)
    assert str(labels[3]) not in str(error.value)


def test_label_folder_missing(write_cityscapes):
    root = write_cityscapes()
    (root / "gtFine").rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match="7 of 7 label files"):
        Cityscapes(str(root), "train")


def test_file_removed_later_is_named(write_cityscapes):
    source = Cityscapes(str(write_cityscapes()), "train")
    path, _ = source.pairs[0]
    Path(path).unlink()
    with pytest.raises(OSError, match=path):
        source[0]
