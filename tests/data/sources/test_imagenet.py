"""ImageNet as TFDS prepares it: a small one, in the same files."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_imagenet import make_tiny_imagenet

from data.sources import make_classification_source
from data.sources.imagenet import ImageNet


@pytest.fixture
def copied_root(imagenet_root, tmp_path):
    """A data set that a test may spoil, and its version folder."""
    shutil.copytree(imagenet_root, tmp_path / "tfds")
    return tmp_path / "tfds", tmp_path / "tfds/imagenet2012/5.1.0"


def test_records_in_the_order_of_the_split(imagenet_root):
    source = ImageNet(str(imagenet_root), "train")
    assert len(source) == 7
    assert source.classes == ("n00000000", "n00000001", "n00000002")
    records = [source[i] for i in range(7)]
    assert [record.label for record in records] == [0, 1, 2, 0, 1, 2, 0]
    assert records[4].name == "imagenet2012 train[4] n00000001_4.JPEG"
    hues = []
    for record in records:
        with Image.open(io.BytesIO(record.image)) as image:
            assert (image.format, image.mode) == ("JPEG", "RGB")
            hues.append(np.median(np.asarray(image.convert("HSV"))[..., 0]))
    np.testing.assert_allclose(hues, [0, 85, 170, 0, 85, 170, 0], atol=2)


def test_part_of_a_split(imagenet_root):
    whole = ImageNet(str(imagenet_root), "validation")
    part = ImageNet(str(imagenet_root), "validation[1:3]")
    assert (len(whole), len(part)) == (4, 2)
    assert part[1].image == whole[2].image


def test_is_made_from_the_config(imagenet_root, classification_config):
    classification_config.root = str(imagenet_root)
    source = make_classification_source(classification_config, "validation")
    assert (len(source), len(source.classes)) == (4, 3)


def test_other_source_is_refused(classification_config):
    classification_config.source = "cityscapes"
    with pytest.raises(ValueError, match=r"'cityscapes'; .* there is imagenet"):
        make_classification_source(classification_config, "train")


def test_newest_version_is_read(copied_root):
    root, folder = copied_root
    for version in ("5.0.0", "10.0.0", "5.2.0.incompleteXYZ"):
        shutil.copytree(folder, folder.with_name(version))
    (folder.with_name("6.0.0")).mkdir()  # prepared by nobody yet
    shutil.rmtree(folder)
    shutil.rmtree(folder.with_name("5.0.0"))
    assert len(ImageNet(str(root), "train")) == 7


def test_missing_data_says_how_to_prepare_it(tmp_path):
    (tmp_path / "imagenet2012/5.1.0").mkdir(parents=True)  # a run that was stopped
    with pytest.raises(FileNotFoundError) as error:
        ImageNet(str(tmp_path), "train")
    message = str(error.value)
    assert f"{tmp_path}/imagenet2012 holds no prepared imagenet2012" in message
    assert "ILSVRC2012_img_val.tar" in message
    assert f"into {tmp_path}/downloads/manual and run once: python -c" in message
    program = message.split('"')[1]
    compile(program, "message", "exec")
    assert f"data_dir='{tmp_path}', file_format='array_record'" in program


def test_incomplete_data_is_named(copied_root):
    root, folder = copied_root
    (folder / "imagenet2012-train.array_record-00000-of-00001").unlink()
    assert len(ImageNet(str(root), "validation")) == 4
    with pytest.raises(FileNotFoundError, match=r"1 of 1 record files.*-train\.array"):
        ImageNet(str(root), "train")


def test_damaged_file_is_named(copied_root):
    root, folder = copied_root
    path = folder / "imagenet2012-train.array_record-00000-of-00001"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(
        OSError, match=r"imagenet2012 train\[2\]: cannot be read \(Array"
    ):
        ImageNet(str(root), "train")[2]


def test_unknown_split_is_named(imagenet_root):
    with pytest.raises(ValueError, match=r"no split 'val'.*'train', 'validation'"):
        ImageNet(str(imagenet_root), "val")


def test_format_without_random_access_is_refused(tmp_path):
    make_tiny_imagenet(tmp_path, 1, 1, 1, file_format="tfrecord")
    with pytest.raises(
        ValueError, match=r"format 'tfrecord'.*another config\.data\.ro"
    ):
        ImageNet(str(tmp_path), "train")
