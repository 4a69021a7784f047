"""The mesh of eight devices and the batches on it."""

import jax
import numpy as np
import pytest

from segnext_jax.parallel.mesh import (
    all_rows,
    batch_sharded,
    check_batch_size,
    local_rows,
    make_mesh,
    per_device,
    prefetch,
    replicated,
    to_global,
)


@pytest.fixture
def mesh():
    assert jax.device_count() == 8, "tests/conftest.py sets eight"
    return make_mesh()


def make_batch(start=0):
    rows = np.arange(start, start + 16)
    return {
        "image": np.broadcast_to(rows[:, None, None], (16, 2, 3)).astype(np.uint8),
        "label": rows.astype(np.int32),
    }


def test_mesh_has_all_devices_or_the_given_ones(mesh):
    assert mesh.devices.tolist() == jax.devices()
    assert make_mesh(jax.devices()[2:4]).devices.tolist() == jax.devices()[2:4]


@pytest.mark.parametrize("batch_size", [8, 16, 64])
def test_batch_that_the_devices_share_is_accepted(mesh, batch_size):
    check_batch_size("config.train.batch_size", batch_size, mesh)


@pytest.mark.parametrize("batch_size", [1, 4, 12])
def test_batch_that_the_devices_cannot_share_is_named(mesh, batch_size):
    message = (
        rf"config\.train\.batch_size is {batch_size}, which 8 devices cannot share "
        "evenly: use a multiple of 8"
    )
    with pytest.raises(ValueError, match=message):
        check_batch_size("config.train.batch_size", batch_size, mesh)


def test_every_device_gets_its_rows(mesh):
    batch = make_batch()
    sharded = to_global(batch, mesh)
    assert sharded.keys() == batch.keys()
    for name, rows in batch.items():
        array = sharded[name]
        assert array.dtype == rows.dtype
        assert array.sharding == batch_sharded(mesh)
        np.testing.assert_array_equal(array, rows)
        for i, device in enumerate(jax.devices()):
            (shard,) = (s for s in array.addressable_shards if s.device == device)
            np.testing.assert_array_equal(shard.data, rows[2 * i : 2 * i + 2])


def test_rows_come_back_in_order(mesh):
    batch = to_global(make_batch(), mesh)
    for name, rows in make_batch().items():
        np.testing.assert_array_equal(local_rows(batch[name]), rows)
        np.testing.assert_array_equal(all_rows(batch)[name], rows)


def test_every_device_computes_on_its_own_rows_alone(mesh):
    batch = to_global({"views": (np.arange(16.0, dtype=np.float32),)}, mesh)

    def add_sum(offset, rows, key):
        assert rows["views"][0].shape == (2,)
        return rows["views"][0].sum()[None] + offset

    run = jax.jit(per_device(add_sum, mesh))
    np.testing.assert_array_equal(run(10.0, batch, None), 11 + 4 * np.arange(8))
    # Nothing crosses from device to device.
    assert "all-" not in run.lower(10.0, batch, None).compile().as_text()


def test_replicated_arrays_are_whole_on_every_device(mesh):
    array = jax.device_put(np.arange(5), replicated(mesh))
    assert len(array.addressable_shards) == 8
    for shard in array.addressable_shards:
        np.testing.assert_array_equal(shard.data, np.arange(5))


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_prefetch_yields_every_batch_in_order(mesh, count):
    fetched = list(prefetch((make_batch(16 * i) for i in range(count)), mesh))
    assert [int(batch["label"][0]) for batch in fetched] == [
        16 * i for i in range(count)
    ]
    assert all(batch["image"].sharding == batch_sharded(mesh) for batch in fetched)


def test_prefetch_reads_one_batch_ahead_and_no_more(mesh):
    read = []

    def batches():
        for i in range(5):
            read.append(i)
            yield make_batch()

    stream = prefetch(batches(), mesh)
    assert read == []
    next(stream)
    assert read == [0, 1]
    next(stream)
    assert read == [0, 1, 2]
