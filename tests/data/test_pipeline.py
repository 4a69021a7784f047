"""The training stream. Image i of the fixture is filled with grey level i."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data import pipeline
from data.classes import train_id_table
from data.sources.cityscapes import Cityscapes
from data.sources.folder import Folder


@pytest.fixture
def source(write_cityscapes):
    return Cityscapes(str(write_cityscapes()), "train")


def take(source, data_config, steps, *, seed=0, batch_size=4, **options):
    stream = pipeline.train_stream(
        source, data_config, seed=seed, batch_size=batch_size, **options
    )
    return list(itertools.islice(stream, steps))


def assert_same(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def records(batches):
    return np.concatenate([b["image"][:, 0, 0, 0] for b in batches]).tolist()


def test_shapes_and_types(source, data_config):
    (batch,) = take(source, data_config, 1)
    assert {key: (x.dtype.name, x.shape) for key, x in batch.items()} == {
        "image": ("uint8", (4, 24, 32, 3)),
        "label": ("uint8", (4, 24, 32)),
        "size": ("int32", (4, 2)),
        "unreadable": ("int32", (4,)),
    }
    assert set(np.unique(batch["label"])) <= {*range(19), 255}


def test_runs_are_identical(source, data_config):
    assert_same(take(source, data_config, 8), take(source, data_config, 8))


def test_any_step_can_be_the_first(source, data_config):
    steps = take(source, data_config, 9)
    assert_same(take(source, data_config, 3, start_step=6), steps[6:])


def test_far_steps_cost_nothing(source, data_config):
    near = take(source, data_config, 2, start_step=10**9)
    assert_same(take(source, data_config, 1, start_step=10**9 + 1), near[1:])


@pytest.mark.parametrize("shard_count", [2, 4])
def test_global_batch_does_not_depend_on_shards(source, data_config, shard_count):
    shards = [
        take(source, data_config, 3, shard_index=i, shard_count=shard_count)
        for i in range(shard_count)
    ]
    joined = [
        {key: np.concatenate([s[key] for s in step]) for key in step[0]}
        for step in zip(*shards, strict=True)
    ]
    assert_same(joined, take(source, data_config, 3))


def test_batch_size_does_not_change_the_examples(source, data_config):
    by_four = take(source, data_config, 2)
    by_one = take(source, data_config, 8, batch_size=1)
    for key in by_four[0]:
        np.testing.assert_array_equal(
            np.concatenate([b[key] for b in by_four]),
            np.concatenate([b[key] for b in by_one]),
        )


def test_seeds_differ_in_order_and_in_crops(source, data_config):
    first, second = (take(source, data_config, 7, seed=seed) for seed in (0, 1))
    assert records(first) != records(second)
    assert any(
        (a["size"] != b["size"]).any() for a, b in zip(first, second, strict=True)
    )


def test_every_epoch_visits_every_record_once(source, data_config):
    seen = np.reshape(records(take(source, data_config, 7)), (4, 7))
    np.testing.assert_array_equal(np.sort(seen), [range(7)] * 4)
    assert len({tuple(epoch) for epoch in seen}) == 4


def test_padding_is_marked(source, data_config):
    data_config.scale_range = (0.5, 0.5)  # 40x48 -> 20x24, the crop is 24x32
    (batch,) = take(source, data_config, 1)
    assert batch["size"].tolist() == [[20, 24]] * 4
    assert (batch["label"][:, 20:] == 255).all()
    assert (batch["label"][:, :, 24:] == 255).all()
    assert not batch["image"][:, 20:].any() and not batch["image"][:, :, 24:].any()

    data_config.pad = "before_crop"
    (grey,) = take(source, data_config, 1)
    assert grey["size"].tolist() == [[24, 32]] * 4
    np.testing.assert_array_equal(grey["label"], batch["label"])
    np.testing.assert_array_equal(
        grey["image"][:, :20, :24], batch["image"][:, :20, :24]
    )
    assert (grey["image"][:, 20:] == 127).all()


def test_image_and_label_are_cut_alike(write_folder, data_config):
    """A label that is the image's own grey level must stay so, scaled or not."""
    root = write_folder(size=(40, 48))
    for path in root.glob("images/train/*"):
        stripes = (np.indices((40, 48))[1] // 12).astype(np.uint8)
        Image.fromarray(np.stack([stripes * 60] * 3, -1)).save(path)
        Image.fromarray(stripes).save(root / "labels/train" / path.name)
    classes = train_id_table("abcd", [(0, 0, 0)] * 4)
    data_config.max_class_ratio = 1.0
    for batch in take(Folder(str(root), "train", classes), data_config, 10):
        inside = batch["label"] != 255
        levels = batch["image"][..., 0] / 60
        # Interpolation blurs, and nearest neighbour shifts, the edge of a stripe.
        assert (np.abs(levels - batch["label"])[inside] < 0.26).mean() > 0.85


def test_illegal_label_stops_with_file_and_ids(write_cityscapes, data_config):
    source = Cityscapes(str(write_cityscapes(raw_id=40)), "train")
    with pytest.raises(ValueError, match=r"_labelIds\.png: label ids 40 .*-1\.\.33"):
        take(source, data_config, 1)


def test_different_sizes_stop(source, data_config):
    data_config.on_unreadable = "skip"  # must not skip this
    path = source.pairs[2][1]
    Image.fromarray(np.zeros((48, 40), np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"differ in size.*\(40, 48\).*\(48, 40\)"):
        take(source, data_config, 2)


def test_unreadable_image_stops_after_the_batches_before_it(source, data_config):
    spoilt = records(take(source, data_config, 2))[6]
    spoil(source, spoilt)
    stream = pipeline.train_stream(source, data_config, seed=0, batch_size=2)
    for _ in range(3):
        next(stream)
    with pytest.raises(
        ValueError, match=r"not a readable image.*on_unreadable"
    ) as error:
        next(stream)
    assert source.pairs[spoilt][0] in str(error.value)
    assert error.value.__cause__ is None and "Traceback" not in str(error.value)


def test_file_removed_during_training_is_not_skipped(source, data_config, tmp_path):
    data_config.on_unreadable = "skip"
    for image, _ in source.pairs:
        (tmp_path / image).unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        take(source, data_config, 1)


def test_unreadable_image_is_replaced_by_the_next_of_the_order(source, data_config):
    data_config.on_unreadable = "skip"
    order = records(take(source, data_config, 1, batch_size=7))
    spoil(source, order[3])
    spoil(source, order[4])
    spoil(source, order[6])
    (batch,) = take(source, data_config, 1, batch_size=7)
    assert batch["unreadable"].tolist() == [0, 0, 0, 2, 1, 0, 1]
    replaced = [*order[:3], order[5], order[5], order[5], order[0]]
    assert records([batch]) == replaced
    assert_same(take(source, data_config, 1, batch_size=7), [batch])


def test_all_unreadable_stops(source, data_config):
    data_config.on_unreadable = "skip"
    for i in range(7):
        spoil(source, i)
    with pytest.raises(ValueError, match="none of the 7 records can be decoded"):
        take(source, data_config, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"batch_size": 6, "shard_count": 4}, "batch_size 6 .*multiple of the 4"),
        ({"shard_index": 2, "shard_count": 2}, r"shard_index 2 is not in \[0, 2\)"),
        ({"start_step": -1}, "start_step -1"),
    ],
)
def test_bad_arguments_are_refused_at_once(source, data_config, options, message):
    with pytest.raises(ValueError, match=message):
        pipeline.train_stream(
            source, data_config, **({"seed": 0, "batch_size": 4} | options)
        )


def test_bad_on_unreadable_is_refused(source, data_config):
    data_config.on_unreadable = "ignore"
    with pytest.raises(ValueError, match="'ignore'; choose 'stop' or 'skip'"):
        pipeline.train_stream(source, data_config, seed=0, batch_size=4)


def test_process_can_end_with_a_live_stream(source, data_config):
    """Loaders that are at work when Python shuts down once blocked it for ever."""
    program = f"""
import time
from ml_collections import ConfigDict
from data import pipeline
from data.sources.cityscapes import Cityscapes

class Slow(Cityscapes):
    def __getitem__(self, index):
        time.sleep(0.05)
        return super().__getitem__(index)

config = ConfigDict({data_config.to_dict()!r})
source = Slow({source.pairs[0][0].split("leftImg8bit")[0]!r}, "train")
stream = pipeline.train_stream(source, config, seed=0, batch_size=2)
next(stream)
"""
    process = subprocess.run([sys.executable, "-c", program], timeout=60)
    assert process.returncode == 0


def spoil(source, index):
    with open(source.pairs[index][0], "r+b") as file:
        file.truncate(60)
