"""A converted dataset gives the crops of the files it was made of."""

import itertools
import json

import numpy as np
import pytest

from configs import common
from data import pipeline
from data.evaluation import EvalReader
from data.sources import make_source
from data.sources.cityscapes import Cityscapes
from data.sources.shards import Shards, write_split
from tools.make_shards import tiled_records


@pytest.fixture
def files(write_cityscapes):
    return Cityscapes(str(write_cityscapes(count=7)), "train")


@pytest.fixture
def convert(tmp_path):
    def convert(source, split="train", num_shards=3, root=tmp_path / "shards"):
        written = write_split(
            tiled_records(source),
            source.classes,
            str(root),
            split,
            num_records=len(source),
            num_shards=num_shards,
        )
        assert list(written) == list(range(1, len(source) + 1))
        return str(root)

    return convert


def test_training_and_evaluation_see_the_same(files, convert, data_config):
    data_config.update(source="shards", root=convert(files), classes="")
    converted = make_source(data_config, "train")
    assert len(converted) == 7
    assert converted.classes.names == files.classes.names
    assert converted.classes.palette == files.classes.palette
    for stream in (
        lambda source: itertools.islice(
            pipeline.train_stream(source, data_config, seed=0, batch_size=4), 4
        ),
        lambda source: EvalReader(source, common.base().eval, batch_size=3)(),
    ):
        for actual, expected in zip(stream(converted), stream(files), strict=True):
            for key in expected:
                np.testing.assert_array_equal(actual[key], expected[key], key)


@pytest.mark.parametrize("num_shards", [1, 3, 7])
def test_records_keep_their_order_and_names(files, convert, num_shards):
    converted = Shards(convert(files, num_shards=num_shards), "train")
    records = [converted[i] for i in range(len(converted))]
    names = [(record.name, record.label_name) for record in records]
    assert names == files.pairs


def test_two_splits_share_a_root(files, convert, tmp_path):
    root = convert(files)
    convert(files, split="val", num_shards=1)
    assert len(Shards(root, "val")) == len(Shards(root, "train"))
    index = json.loads((tmp_path / "shards/dataset.json").read_text())
    assert index["splits"] == {"train": [2, 2, 3], "val": [7]}


def test_what_is_there_is_never_overwritten(files, convert, write_folder, tmp_path):
    root = convert(files)
    before = {p: p.read_bytes() for p in (tmp_path / "shards").iterdir()}
    with pytest.raises(ValueError, match="already has the split 'train'"):
        convert(files)
    other = make_folder_source(write_folder())
    with pytest.raises(ValueError, match="other classes"):
        convert(other, split="val")
    with pytest.raises(ValueError, match="8 shards; 1 to 7"):
        convert(files, split="val", num_shards=8)
    assert {p: p.read_bytes() for p in (tmp_path / "shards").iterdir()} == before
    assert len(Shards(root, "train")) == 7


def make_folder_source(root):
    from data.classes import train_id_table
    from data.sources.folder import Folder

    return Folder(str(root), "train", train_id_table("abc", [(i, 0, 0) for i in "123"]))


def test_stopped_conversion_leaves_no_split(files, tmp_path):
    root = str(tmp_path / "shards")
    options = dict(num_records=7, num_shards=2)
    written = write_split(tiled_records(files), files.classes, root, "train", **options)
    for _ in range(5):
        next(written)
    written.close()
    with pytest.raises(FileNotFoundError, match=r"no .*dataset\.json.*make_shards"):
        Shards(root, "train")


def test_illegal_label_stops_the_conversion_by_name(write_cityscapes, convert):
    source = Cityscapes(str(write_cityscapes(raw_id=40)), "train")
    with pytest.raises(ValueError, match=r"_labelIds\.png: label ids 40"):
        convert(source)


def test_damaged_shard_is_named_and_never_misread(files, convert, tmp_path):
    root = convert(files, num_shards=1)
    path = tmp_path / "shards/train-00000-of-00001.array_record"
    intact = [Shards(root, "train")[i] for i in range(7)]
    content = path.read_bytes()
    for position in range(200, len(content) - 200, len(content) // 40):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(bytes(damaged))
        source = Shards(root, "train")
        for i in range(7):
            try:
                record = source[i]
            except OSError as error:
                assert f"train[{i}]: cannot be read" in str(error)
            else:
                assert record == intact[i]


def test_missing_data_is_named(files, convert, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"Correct config\.data\.root = "):
        Shards(str(tmp_path), "train")
    root = convert(files)
    with pytest.raises(ValueError, match="no split 'test', only train"):
        Shards(root, "test")
    (tmp_path / "shards/train-00001-of-00003.array_record").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 3 shard files do not exist"):
        Shards(root, "train")
