"""Cityscapes and SceneParse150 as TFDS prepares them: small ones, in the same files."""

import io
import shutil
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data.decode import decode_label, decode_record
from data.sources import SOURCES, make_source
from data.sources.ade20k import ADE20K, ADE20KTfds
from data.sources.cityscapes import CityscapesTfds
from data.sources.tfds import rename_split

RAW_IDS = np.array([*range(34), 255], np.uint8)
SIZE = (1024, 2048)  # TFDS takes no other


@pytest.fixture(scope="module")
def cityscapes_root(tmp_path_factory):
    """What TFDS makes of zips like the official ones: 3 + 2 + 1 frames."""
    root = tmp_path_factory.mktemp("tfds")
    manual = root / "downloads/manual"
    manual.mkdir(parents=True)
    with (
        zipfile.ZipFile(manual / "leftImg8bit_trainvaltest.zip", "w") as images,
        zipfile.ZipFile(manual / "gtFine_trainvaltest.zip", "w") as labels,
    ):
        for split, count in {"train": 3, "val": 2, "test": 1}.items():
            for i in range(count):
                frame = f"{split}/aachen/aachen_{i:06}_000019"
                images.writestr(f"leftImg8bit/{frame}_leftImg8bit.png", frame_png(i))
                labels.writestr(f"gtFine/{frame}_gtFine_labelIds.png", label_png())
                labels.writestr(f"gtFine/{frame}_gtFine_color.png", b"of no concern")
    builder = tfds.builder(
        "cityscapes/semantic_segmentation", data_dir=root, file_format="array_record"
    )
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    builder.download_and_prepare(download_config=config)
    return root


def frame_png(number: int) -> bytes:
    return encode(np.full((*SIZE, 3), number, np.uint8), "PNG")


def label_png() -> bytes:
    label = np.zeros(SIZE, np.uint8)
    label[0, : RAW_IDS.size] = RAW_IDS
    return encode(label, "PNG")


def encode(array: np.ndarray, file_format: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, file_format)
    return file.getvalue()


@pytest.mark.parametrize(
    ("split", "count"),
    [("train", 3), ("val", 2), ("validation", 2), ("test", 1), ("val[1:]", 1)],
)
def test_splits_of_cityscapes(cityscapes_root, data_config, split, count):
    data_config.update(source="cityscapes_tfds", root=str(cityscapes_root))
    assert len(make_source(data_config, split)) == count


def test_files_of_cityscapes_are_stored_as_they_are(cityscapes_root):
    source = CityscapesTfds(str(cityscapes_root), "train")
    records = {source[i].name.split()[-2]: source[i] for i in range(3)}
    assert records.keys() == {f"aachen_{i:06}_000019" for i in range(3)}  # shuffled
    for i, record in enumerate(records[name] for name in sorted(records)):
        assert (record.image, record.label) == (frame_png(i), label_png())
    _, label = decode_record(source[0], source.classes)
    to_train = SOURCES["cityscapes"].classes.raw_to_train | {255: 255}
    expected = [to_train[i] for i in RAW_IDS.tolist()]
    np.testing.assert_array_equal(label[0, : RAW_IDS.size], expected)


def test_records_are_named(cityscapes_root):
    record = CityscapesTfds(str(cityscapes_root), "test")[0]
    place = "cityscapes/semantic_segmentation test[0] aachen_000000_000019"
    assert (record.name, record.label_name) == (
        f"{place} image_left",
        f"{place} segmentation_label",
    )


def test_unprepared_cityscapes_says_how(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        CityscapesTfds(str(tmp_path), "val")
    message = str(error.value)
    assert f"{tmp_path}/cityscapes/semantic_segmentation holds no prepared" in message
    assert "put leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip" in message
    assert f"into {tmp_path}/downloads/manual and run once: python -c" in message
    program = message.split('"')[1]
    compile(program, "message", "exec")
    assert "tfds.builder('cityscapes/semantic_segmentation'" in program


def test_incomplete_cityscapes_is_named(cityscapes_root, tmp_path):
    folder = "cityscapes/semantic_segmentation/1.0.0"
    shutil.copytree(cityscapes_root / folder, tmp_path / folder)
    (tmp_path / folder / "cityscapes-train.array_record-00000-of-00001").unlink()
    assert len(CityscapesTfds(str(tmp_path), "val")) == 2
    with pytest.raises(FileNotFoundError, match=r"1 of 1 record files.*Delete /.*1\.0"):
        CityscapesTfds(str(tmp_path), "train")


SEMANTIC = np.arange(151, dtype=np.uint8).reshape(1, -1)
# An instance mask: the class in red (1 to 100), the instance in green.
INSTANCES = np.zeros((1, 101, 3), np.uint8)
INSTANCES[0, :, 0] = np.arange(101)
INSTANCES[0, 1:, 1] = 7


@pytest.fixture
def write_scene_parse(tmp_path):
    """Writes scene_parse150 with these annotations, in TFDS's features."""

    def write(*annotations):
        features = tfds.builder("scene_parse150", data_dir=tmp_path).info.features
        tfds.dataset_builders.store_as_tfds_dataset(
            "scene_parse150",
            "1.0.0",
            features,
            {
                "train": list(enumerate(map(example, annotations))),
                "test": [(0, example(annotations[0]))],
            },
            data_dir=tmp_path,
            file_format="array_record",
            disable_shuffling=True,
        )
        return str(tmp_path)

    return write


def example(annotation):
    image = encode(np.zeros((*annotation.shape[:2], 3), np.uint8), "JPEG")
    return {
        "image": io.BytesIO(image),
        "annotation": io.BytesIO(encode(annotation, "PNG")),
    }


def test_scene_parse_of_tfds_has_instance_masks(write_scene_parse):
    source = ADE20KTfds(write_scene_parse(INSTANCES), "train")
    assert decode_label(source[0].label, "label").shape == (1, 101, 3)
    image, label = decode_record(source[0], source.classes)
    assert (image.shape, label.shape) == ((1, 101, 3), (1, 101))
    names = [source.classes.names[i] for i in label[0, 1:]]
    assert label[0, 0] == 255
    # ade20k_instance_catid_mapping.txt of facebookresearch/Mask2Former.
    assert names[:6] == [
        "bed",
        "windowpane",
        "cabinet",
        "person",
        "door",
        "table",
    ]
    assert names[-2:] == ["clock", "flag"]
    assert len(set(names)) == 100
    assert not {"wall", "sky", "floor", "tree", "ceiling", "road"} & set(names)


@pytest.mark.parametrize("as_rgb", [False, True])
def test_scene_parse_with_grey_labels_has_all_classes(write_scene_parse, as_rgb):
    label = np.stack([SEMANTIC] * 3, -1) if as_rgb else SEMANTIC
    source = ADE20KTfds(write_scene_parse(label), "train")
    _, label = decode_record(source[0], source.classes)
    np.testing.assert_array_equal(label, ADE20K.classes.to_train_ids(SEMANTIC, "file"))


def test_impossible_instance_masks_are_named(write_scene_parse):
    mask = INSTANCES.copy()
    mask[0, 3, 0] = 101
    source = ADE20KTfds(write_scene_parse(INSTANCES, mask), "train")
    with pytest.raises(ValueError, match=r"150 train\[1\] ann.* 0 to 100, not 101"):
        decode_record(source[1], source.classes)


def test_splits_of_scene_parse(write_scene_parse, data_config):
    root = write_scene_parse(SEMANTIC, SEMANTIC)
    data_config.update(source="ade20k_tfds", root=root)
    counts = {"training": 2, "train": 2, "validation": 1, "test": 1, "training[:1]": 1}
    for split, count in counts.items():
        assert len(make_source(data_config, split)) == count
    with pytest.raises(ValueError, match=r"no split 'val'.*'train', 'test'"):
        make_source(data_config, "val")


def test_unprepared_scene_parse_needs_no_download_by_hand(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"or run once: python -c") as error:
        ADE20KTfds(str(tmp_path), "train")
    assert "manual" not in str(error.value)


def test_rename_split():
    names = {"val": "validation"}
    assert rename_split("val", names) == "validation"
    assert rename_split("val[:10%]", names) == "validation[:10%]"
    assert rename_split("validation", names) == "validation"
    assert rename_split("train[:10%]", names) == "train[:10%]"
