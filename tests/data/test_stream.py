"""Plumbing that all streams share; more of it is tested with the streams."""

import itertools

import numpy as np
import pytest

from data import stream

ONE_SHARD = dict(shard_index=0, shard_count=1)


def numbers(k):
    """Makes the example that is k itself."""
    x, error = stream.load(lambda k: (np.int64(k),), (np.int64(0),), k)
    return {"x": x, "error": error}


def rows(**options):
    return [batch["x"].tolist() for batch in stream.batches(numbers, **options)]


def test_row_r_of_step_s_is_example_s_times_batch_size_plus_r():
    endless = stream.batches(numbers, batch_size=6, start_step=5, **ONE_SHARD)
    first, second = (batch["x"].tolist() for batch in itertools.islice(endless, 2))
    assert (first, second) == ([*range(30, 36)], [*range(36, 42)])


@pytest.mark.parametrize("shard_index", [0, 1, 2])
def test_shards_have_neighbouring_rows(shard_index):
    shard = dict(shard_index=shard_index, shard_count=3)
    first = 2 * shard_index
    expected = [[first, first + 1], [first + 6, first + 7]]
    for num_examples in (7, 12):
        assert rows(batch_size=6, num_examples=num_examples, **shard) == expected


def test_no_examples_no_batches():
    assert rows(batch_size=6, num_examples=0, **ONE_SHARD) == []


def test_errors_come_when_their_batch_does():
    def fail_at_five(k):
        if k == 5:
            raise OSError("five is bad")
        return (np.int64(k),)

    def make_example(k):
        x, error = stream.load(fail_at_five, (np.int64(0),), k)
        return {"x": x, "error": error}

    stream_of_two = stream.batches(make_example, batch_size=2, **ONE_SHARD)
    assert [next(stream_of_two)["x"].tolist() for _ in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match=r"^five is bad$"):
        next(stream_of_two)


def test_placeholders_give_ranks_and_types():
    shapes = []

    def make_example(k):
        like = (np.zeros((1, 1, 3), np.uint8), np.float32(0))
        image, x, error = stream.load(lambda k: like, like, k)
        shapes.append((image.shape.rank, image.dtype.name, x.shape.rank, x.dtype.name))
        return {"image": image, "error": error}

    next(stream.batches(make_example, batch_size=1, **ONE_SHARD))
    assert shapes[0] == (3, "uint8", 0, "float32")
