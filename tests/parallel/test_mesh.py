"""The mesh of eight devices and the batches on it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.parallel.mesh import (
    all_rows,
    batch_sharding,
    check_batch_size,
    check_rows,
    compiler_options,
    data_shard,
    local_rows,
    make_mesh,
    per_device,
    prefetch,
    replicated,
    split_rows,
    spread,
    to_global,
)


@pytest.fixture
def mesh():
    assert jax.device_count() == 8, "tests/conftest.py sets eight"
    return make_mesh()


def make_batch(start=0):
    rows = np.arange(start, start + 16)
    image = 10 * rows[:, None, None] + np.arange(4)[:, None]
    return {
        "image": np.broadcast_to(image, (16, 4, 3)).astype(np.uint8),
        "label": rows.astype(np.int32),
    }


def test_mesh_has_all_devices_or_the_given_ones(mesh):
    assert mesh.devices.ravel().tolist() == jax.devices()
    two = jax.devices()[2:4]
    assert make_mesh(two).devices.ravel().tolist() == two


@pytest.mark.parametrize(
    ("data", "spatial", "shape"),
    [
        (-1, 1, (8, 1)),
        (-1, 4, (2, 4)),
        (4, -1, (4, 2)),
        (1, 8, (1, 8)),
    ],
)
def test_axes_have_the_sizes_asked_for(data, spatial, shape):
    mesh = make_mesh(data=data, spatial=spatial)
    assert mesh.axis_names == ("data", "spatial")
    assert mesh.devices.shape == shape


@pytest.mark.parametrize("sizes", [(3, -1), (-1, 3), (4, 4), (2, 2), (8, 2)])
def test_sizes_that_are_no_mesh_of_the_devices_are_refused(sizes):
    data, spatial = sizes
    message = (
        rf"config\.mesh\.data = {data} and config\.mesh\.spatial = {spatial} are no "
        "mesh of 8 devices"
    )
    with pytest.raises(ValueError, match=message):
        make_mesh(data=data, spatial=spatial)


@pytest.mark.parametrize("sizes", [(-1, -1), (0, 1), (-2, 1), (8, 0), (-1, -3)])
def test_sizes_that_say_nothing_are_refused(sizes):
    data, spatial = sizes
    with pytest.raises(ValueError, match="give positive sizes, or one as -1"):
        make_mesh(data=data, spatial=spatial)


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
        assert array.sharding == batch_sharding(mesh, rows.ndim)
        np.testing.assert_array_equal(array, rows)
        for i, device in enumerate(jax.devices()):
            (shard,) = (s for s in array.addressable_shards if s.device == device)
            np.testing.assert_array_equal(shard.data, rows[2 * i : 2 * i + 2])


def test_rows_of_images_are_split_over_the_other_axis():
    mesh = make_mesh(data=4, spatial=2)
    batch = make_batch()
    sharded = to_global(batch, mesh)
    for name, rows in batch.items():
        np.testing.assert_array_equal(sharded[name], rows)
    for d, s in np.ndindex(4, 2):
        examples = slice(4 * d, 4 * d + 4)
        expected = {
            "image": batch["image"][examples, 2 * s : 2 * s + 2],
            "label": batch["label"][examples],  # has no rows
        }
        for name, part in expected.items():
            shards = sharded[name].addressable_shards
            (shard,) = (x for x in shards if x.device == mesh.devices[d, s])
            np.testing.assert_array_equal(shard.data, part)


class Device:
    """Of another process."""

    def __init__(self, process_index):
        self.process_index = process_index


class FakeMesh:
    """Devices of several processes, by the numbers of those."""

    def __init__(self, processes):
        self.devices = np.vectorize(Device, otypes=[object])(np.array(processes))
        self.shape = dict(zip(("data", "spatial"), self.devices.shape, strict=True))


@pytest.mark.parametrize(
    ("processes", "shards"),
    [
        ([[0], [0], [1], [1]], [(0, 2), (1, 2)]),
        ([[1], [1], [0], [0]], [(1, 2), (0, 2)]),
        ([[0, 0], [1, 1]], [(0, 2), (1, 2)]),
        ([[0, 0, 1, 1], [2, 2, 3, 3]], [(0, 2), (0, 2), (1, 2), (1, 2)]),
        ([[0, 0, 1, 1, 2, 2, 3, 3]], [(0, 1)] * 4),
        # Blocks of 2×2, as the hosts of a TPU slice.
        ([[0, 0, 1, 1], [0, 0, 1, 1]], [(0, 1), (0, 1)]),
    ],
)
def test_processes_read_the_examples_of_their_devices(processes, shards, monkeypatch):
    for process, shard in enumerate(shards):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        assert data_shard(FakeMesh(processes)) == shard


@pytest.mark.parametrize(
    "processes", [[[0], [0], [1]], [[0], [1], [0], [1]], [[0, 0], [0, 1], [1, 1]]]
)
def test_processes_with_unequal_parts_of_the_data_are_refused(processes):
    with pytest.raises(
        ValueError, match=r"choose a config\.mesh\.spatial that divides"
    ):
        data_shard(FakeMesh(processes))


@pytest.mark.parametrize(("rows", "spatial"), [(1024, 8), (768, 8), (96, 1)])
def test_rows_that_the_devices_share_are_accepted(rows, spatial):
    check_rows("config.data.crop_size[0]", rows, 32, make_mesh(spatial=spatial))


def test_rows_that_the_devices_cannot_share_are_named():
    message = (
        r"config\.data\.crop_size\[0\] is 352 rows, 11 at stride 32, which "
        r"config\.mesh\.spatial = 2 devices cannot share evenly: use a multiple of 64"
    )
    with pytest.raises(ValueError, match=message):
        check_rows("config.data.crop_size[0]", 352, 32, make_mesh(spatial=2))


def test_split_rows_shows_a_function_its_part_of_the_rows():
    mesh = make_mesh(data=2, spatial=4)
    image = jax.device_put(make_batch()["image"], batch_sharding(mesh, 3))

    def function(offset, x, rngs, axis_name=None):
        assert x.shape == (16, 1, 3)  # all examples: jit splits those
        return x + offset, jax.lax.psum(x.sum(), axis_name)

    split = jax.jit(split_rows(function, mesh))
    rows, total = split(np.uint8(1), image, {})
    np.testing.assert_array_equal(rows, np.asarray(image) + 1)
    assert total == np.asarray(image).sum()
    assert rows.sharding.is_equivalent_to(batch_sharding(mesh, 3), 3)


def test_split_rows_changes_nothing_where_images_are_whole(mesh):
    assert split_rows(make_batch, mesh) is make_batch


def test_rows_come_back_in_order(mesh):
    batch = spread(make_batch(), mesh)
    for name, rows in make_batch().items():
        np.testing.assert_array_equal(local_rows(batch[name]), rows)
        np.testing.assert_array_equal(all_rows(batch)[name], rows)


@pytest.mark.parametrize("spatial", [1, 4])
def test_every_device_computes_on_its_own_rows_alone(spatial):
    mesh = make_mesh(spatial=spatial)
    batch = spread({"views": (np.arange(16.0, dtype=np.float32),)}, mesh)

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
    sharding = batch_sharding(mesh, 3)
    assert all(batch["image"].sharding == sharding for batch in fetched)


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


def test_options_that_xla_knows_are_those_of_the_platform(mesh):
    """An unknown one would be an error; other compilers do not know a CPU's."""
    x = jnp.ones(3)
    doubled = jax.jit(lambda x: 2 * x, compiler_options=compiler_options(mesh))(x)
    np.testing.assert_array_equal(doubled, 2 * x)
    assert compiler_options(mesh)
    tpu = SimpleNamespace(devices=np.array([SimpleNamespace(platform="tpu")]))
    assert compiler_options(tpu) == {}
