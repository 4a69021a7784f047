"""Evaluation batches: plan, shards, memory. Image i is filled with grey level i."""

import threading
import time
import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image

from configs import common
from data import evaluation
from data.classes import train_id_table
from data.decode import decode_record
from data.evaluation import EvalReader, plan_batches, view_sizes
from data.sources.base import Record
from data.sources.cityscapes import Cityscapes

SIZES = [(8, 8), (8, 16), (8, 8), (16, 8), (8, 16), (8, 8), (16, 8)]


@pytest.fixture
def config():
    return common.base().eval.unlock()


@pytest.fixture
def source(write_cityscapes):
    return Cityscapes(str(write_cityscapes()), "train")


@pytest.fixture
def mixed(write_cityscapes):
    return Cityscapes(str(write_cityscapes(sizes=SIZES)), "train")


def read(source, config, **options):
    return list(EvalReader(source, config, **options)())


def seen(batches):
    """Indices in order; each must be that of its picture."""
    batches = list(batches)
    for batch in batches:
        for view in batch["views"]:
            np.testing.assert_array_equal(
                view[batch["mask"], 0, 0, 0], batch["index"][batch["mask"]]
            )
    return [int(i) for batch in batches for i in batch["index"][batch["mask"]]]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_every_image_once_and_in_order(source, config, batch_size):
    batches = read(source, config, batch_size=batch_size)
    assert len(batches) == -(-7 // batch_size)
    assert seen(batches) == list(range(7))
    for batch in batches:
        (view,) = batch["views"]
        assert view.shape[1:] == (40, 48, 3) and view.dtype == np.uint8
        assert batch["label"].shape[1:] == (40, 48)
        assert batch["mask"].all() and len(view) <= batch_size
        assert set(batch) == {"views", "label", "mask", "index"}  # nothing is padded


def test_labels_are_whole_and_exact(source, config):
    (batch,) = read(source, config, batch_size=7)
    for i in range(7):
        _, label = decode_record(source[i], source.classes)
        np.testing.assert_array_equal(batch["label"][i], label)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
def test_few_sizes_have_a_bucket_each(mixed, config, batch_size):
    batches = read(mixed, config, batch_size=batch_size)
    assert seen(batches) == [0, 2, 5, 1, 4, 3, 6]
    for batch in batches:
        assert "size" not in batch
        for i, label in zip(batch["index"], batch["label"], strict=True):
            assert label.shape == SIZES[i]


def test_padded_images_lie_at_the_top_left(mixed, config, monkeypatch):
    monkeypatch.setattr(evaluation, "_MAX_BUCKETS", 1)
    config.scales = (1.0, 0.5)
    (batch,) = read(mixed, config, batch_size=7)
    assert [view.shape for view in batch["views"]] == [(7, 16, 16, 3), (7, 8, 8, 3)]
    for row, i in enumerate(batch["index"]):
        h, w = SIZES[i]
        assert batch["size"][row].tolist() == [h, w]
        assert batch["view_sizes"][row].tolist() == [[h, w], [h // 2, w // 2]]
        for view, (h, w) in zip(batch["views"], batch["view_sizes"][row], strict=True):
            assert (view[row, :h, :w] == i).all()
            assert not view[row, h:].any() and not view[row, :, w:].any()
        _, label = decode_record(mixed[i], mixed.classes)
        h, w = SIZES[i]
        np.testing.assert_array_equal(batch["label"][row, :h, :w], label)
        assert (batch["label"][row, h:] == 255).all()
        assert (batch["label"][row, :, w:] == 255).all()


@pytest.mark.parametrize("max_buckets", [1, 8])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 6, 20])
@pytest.mark.parametrize("shard_count", [1, 2, 3])
def test_shards_share_the_images_and_yield_equally_many_batches(
    mixed, config, batch_size, shard_count, max_buckets, monkeypatch
):
    monkeypatch.setattr(evaluation, "_MAX_BUCKETS", max_buckets)
    shards = [
        read(
            mixed, config, batch_size=batch_size, shard_index=i, shard_count=shard_count
        )
        for i in range(shard_count)
    ]
    whole = read(mixed, config, batch_size=batch_size)
    assert {len(shard) for shard in shards} == {len(whole)}
    for parts, batch in zip(zip(*shards, strict=True), whole, strict=True):
        assert len({len(part["mask"]) for part in parts}) == 1
        mask = np.concatenate([part["mask"] for part in parts])
        for key in ("label", "index", *({"size", "view_sizes"} & set(batch))):
            joined = np.concatenate([part[key] for part in parts])
            np.testing.assert_array_equal(joined[mask], batch[key])


def test_shard_without_any_image_sends_rows_that_fill(write_cityscapes, config):
    source = Cityscapes(str(write_cityscapes(count=1)), "train")
    (batch,) = read(source, config, batch_size=4, shard_index=3, shard_count=4)
    assert batch["views"][0].shape == (1, 40, 48, 3)
    assert not batch["mask"].any() and (batch["label"] == 255).all()


def test_rows_that_fill_a_padded_bucket_count_as_whole_images(
    mixed, config, monkeypatch
):
    """An image of size 0 would have moments of nothing."""
    monkeypatch.setattr(evaluation, "_MAX_BUCKETS", 1)
    (batch,) = read(mixed, config, batch_size=7, shard_index=3, shard_count=4)
    assert batch["mask"].tolist() == [True, False]
    assert batch["size"][1].tolist() == [16, 16]
    assert batch["view_sizes"][1].tolist() == [[16, 16]]


def test_unreadable_image_always_stops(source, config):
    with open(source.pairs[4][0], "r+b") as file:
        file.truncate(60)  # leaves the header
    batches = EvalReader(source, config, batch_size=3)()
    assert seen([next(batches)]) == [0, 1, 2]
    with pytest.raises(ValueError, match=f"{source.pairs[4][0]}: not a readable image"):
        next(batches)


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF", b"\xff\xd8\xff"]
)
def test_image_without_a_header_is_named_before_the_first_batch(
    source, config, content
):
    with open(source.pairs[4][0], "wb") as file:
        file.write(content)
    with pytest.raises(ValueError, match=f"{source.pairs[4][0]}: not a readable image"):
        next(EvalReader(source, config, batch_size=3)())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(batch_size=0), "batch_size is 0: read one"),
        (dict(batch_size=2, shard_index=2, shard_count=2), r"2 is not in \[0, 2\)"),
    ],
)
def test_illegal_arguments_are_refused_at_once(source, config, options, message):
    with pytest.raises(ValueError, match=message):
        EvalReader(source, config, **options)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("scales", (), r"scales is \(\): use one or more"),
        ("scales", (0.0, 1.0), r"scales is \(0.0, 1.0\): use"),
        ("resize_to", (512,), r"resize_to is \(512,\): use \(\) or \(h, w\)"),
        ("size_divisor", 0, "size_divisor is 0: use 1"),
        ("rescale", "float", "rescale is 'float': use 'uint8' or 'float32'"),
    ],
)
def test_illegal_config_values_are_refused_at_once(source, config, key, value, message):
    config.update({key: value})
    with pytest.raises(ValueError, match=rf"config\.eval\.{message}"):
        EvalReader(source, config, batch_size=2)


def test_a_thousand_sizes_have_eight_buckets(config):
    config.scales = (0.5, 1.0)
    sizes = np.random.default_rng(0).integers(30, 800, (1000, 2))
    planned = plan_batches(sizes, config, 7)
    assert len({batch.bucket for batch in planned}) == 8
    indices = [i for batch in planned for i in batch.indices]
    assert sorted(indices) == list(range(1000))
    for batch in planned:
        members = sizes[list(batch.indices)]
        assert 1 <= len(members) <= 7
        assert (members <= batch.bucket.shape).all()
        for i, shape in enumerate(batch.bucket.view_shapes):
            views = [view_sizes(tuple(size), config)[i] for size in members]
            assert (np.array(views) <= shape).all()
    by_bucket = {}
    for batch in planned:
        by_bucket.setdefault(batch.bucket, []).extend(batch.indices)
    for bucket, members in by_bucket.items():
        assert members == sorted(members)
        assert tuple(sizes[members].max(axis=0)) == bucket.shape
    # Of like sizes: one bucket for all would have 3.6 times the pixels of the images.
    pixels = sum(np.prod(b.shape) * len(m) for b, m in by_bucket.items())
    assert pixels < 1.8 * sizes.prod(axis=1).sum()


def test_landscapes_and_portraits_do_not_share_a_bucket(config, monkeypatch):
    monkeypatch.setattr(evaluation, "_MAX_BUCKETS", 2)
    sizes = [(300, 400), (400, 300), (310, 400), (400, 310), (300, 390)]
    buckets = {batch.bucket.shape: batch for batch in plan_batches(sizes, config, 8)}
    assert buckets[310, 400].indices == (0, 2, 4)
    assert buckets[400, 310].indices == (1, 3)
    assert all(batch.bucket.is_padded for batch in buckets.values())


def test_headers_are_read_once_and_images_at_every_pass(source, config):
    reader = EvalReader(source, config, batch_size=3)
    assert seen(reader()) == list(range(7))
    for image, _ in source.pairs:
        with open(image, "r+b") as file:
            file.truncate(10)  # without headers, to be found only by a second scan
    with pytest.raises(ValueError, match="not a readable image; its 10 bytes"):
        next(reader())
    assert len(reader.plan) == 3


def test_image_that_changed_since_the_scan_is_named(source, config):
    reader = EvalReader(source, config, batch_size=3)
    assert len(reader.plan) == 3
    for path in source.pairs[2]:
        Image.open(path).crop((0, 0, 30, 20)).save(path)
    with pytest.raises(ValueError, match=r"is \(20, 30\) .* said \(40, 48\)"):
        next(reader())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_upright_images(write_folder, config, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "x.jpg"
    Image.new("RGB", (20, 30)).save(path, exif=exif)
    expected = (30, 20) if orientation < 5 else (20, 30)
    assert evaluation.image_size(path.read_bytes(), "x.jpg") == expected


class MadeUp:
    """Records of images of one size that exist only once they are asked for."""

    classes = train_id_table(["thing"], [(0, 0, 0)])

    def __init__(self, count):
        self.count = count
        self.label = cv2.imencode(".png", np.zeros((96, 128), np.uint8))[1].tobytes()
        self.image = cv2.imencode(".png", np.zeros((96, 128, 3), np.uint8))[1].tobytes()
        self.asked, self.lock = 0, threading.Lock()

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        with self.lock:
            self.asked += 1
        return Record(f"{index}.png", self.image, self.label, f"{index}.png")


def peak_memory(count, config):
    reader = EvalReader(MadeUp(count), config, batch_size=4)
    assert len(reader.plan) == count // 4
    tracemalloc.start()
    try:
        for _ in reader():
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_number_of_images(config):
    peaks = [peak_memory(count, config) for count in (100, 400)]
    batch = 4 * 96 * 128 * 4
    assert batch < peaks[0]
    # A hundred more images would be 25 batches.
    assert abs(peaks[1] - peaks[0]) < 2 * batch


def test_little_is_read_ahead_of_the_consumer(config, monkeypatch):
    monkeypatch.setattr(evaluation.os, "cpu_count", lambda: 2)
    source = MadeUp(40)
    reader = EvalReader(source, config, batch_size=4)
    assert len(reader.plan) == 10
    scanned = source.asked
    batches = reader()
    next(batches)
    time.sleep(0.1)
    assert source.asked - scanned <= 4 + 2
    batches.close()
