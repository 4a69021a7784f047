"""Evaluation batches. Image i of the fixture is filled with grey level i."""

import numpy as np
import pytest

from data import pipeline
from data.decode import decode_record
from data.sources.cityscapes import Cityscapes


@pytest.fixture
def source(write_cityscapes):
    return Cityscapes(str(write_cityscapes()), "train")


def evaluate(source, **options):
    return list(pipeline.eval_batches(source, **options))


def seen(batches):
    return [int(x[0, 0, 0]) for b in batches for x in b["image"][b["mask"]]]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_every_image_once_and_in_order(source, batch_size):
    batches = evaluate(source, batch_size=batch_size)
    assert len(batches) == -(-7 // batch_size)
    assert seen(batches) == list(range(7))
    for batch in batches:
        assert batch["image"].shape == (batch_size, 40, 48, 3)
        assert batch["label"].shape == (batch_size, 40, 48)
        assert batch["mask"].dtype == bool
        assert (batch["label"][~batch["mask"]] == 255).all()


@pytest.mark.parametrize("batch_size", [2, 4, 6, 8, 20])
def test_shards_share_the_images_and_yield_equally_many_batches(source, batch_size):
    shards = [
        evaluate(source, batch_size=batch_size, shard_index=i, shard_count=2)
        for i in range(2)
    ]
    whole = evaluate(source, batch_size=batch_size)
    assert len(shards[0]) == len(shards[1]) == len(whole)
    for parts, batch in zip(zip(*shards, strict=True), whole, strict=True):
        for key in batch:
            joined = np.concatenate([part[key] for part in parts])
            np.testing.assert_array_equal(joined, batch[key])


def test_shard_without_any_image_sends_padding(write_cityscapes):
    source = Cityscapes(str(write_cityscapes(count=1)), "train")
    (batch,) = evaluate(source, batch_size=4, shard_index=3, shard_count=4)
    assert batch["image"].shape == (1, 40, 48, 3)
    assert not batch["mask"].any() and (batch["label"] == 255).all()


def test_labels_are_whole_and_exact(source):
    (batch,) = evaluate(source, batch_size=7)
    for i in range(7):
        _, label = decode_record(source[i], source.classes)
        np.testing.assert_array_equal(batch["label"][i], label)


SIZES = [(8, 8), (8, 16), (8, 8), (16, 8), (8, 16), (8, 8), (16, 8)]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_sizes_are_collected_apart(write_cityscapes, batch_size):
    source = Cityscapes(str(write_cityscapes(sizes=SIZES)), "train")
    batches = evaluate(source, batch_size=batch_size)
    assert sorted(seen(batches)) == list(range(7))
    for batch in batches:
        assert len(batch["image"]) == len(batch["label"]) == batch_size
        for image in batch["image"][batch["mask"]]:
            assert image.shape[:2] == SIZES[image[0, 0, 0]]
    if batch_size == 2:
        assert [b["mask"].sum() for b in batches] == [2, 2, 2, 1]


def test_sizes_may_not_differ_between_shards(write_cityscapes):
    source = Cityscapes(str(write_cityscapes(sizes=SIZES)), "train")
    with pytest.raises(ValueError, match=r"\(8, 16\), but .*\(8, 8\).*shard_count 1"):
        evaluate(source, batch_size=2, shard_index=1, shard_count=2)


def test_unreadable_image_always_stops(source):
    with open(source.pairs[4][0], "r+b") as file:
        file.truncate(60)
    batches = pipeline.eval_batches(source, batch_size=3)
    assert seen([next(batches)]) == [0, 1, 2]
    with pytest.raises(ValueError, match=f"{source.pairs[4][0]}: not a readable image"):
        next(batches)


def test_batch_size_must_suit_the_shards(source):
    with pytest.raises(ValueError, match=r"batch_size 3 .*multiple of the 2"):
        pipeline.eval_batches(source, batch_size=3, shard_index=0, shard_count=2)
