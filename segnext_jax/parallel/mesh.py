"""The device mesh: the only place that names its axes."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

DATA_AXIS = "data"


def make_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """All devices of all processes along `data`."""
    return Mesh(np.asarray(devices or jax.devices()), (DATA_AXIS,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array: parameters, optimizer state, metrics."""
    return NamedSharding(mesh, P())


def batch_sharded(mesh: Mesh) -> NamedSharding:
    """The leading axis of the global batch is split over the devices."""
    return NamedSharding(mesh, P(DATA_AXIS))


def check_batch_size(key: str, batch_size: int, mesh: Mesh) -> None:
    """Raises ValueError unless every device gets the same number of examples."""
    devices = mesh.shape[DATA_AXIS]
    if batch_size % devices:
        raise ValueError(
            f"{key} is {batch_size}, which {devices} devices cannot share evenly: "
            f"use a multiple of {devices}"
        )


def to_global(batch: dict[str, Any], mesh: Mesh) -> dict[str, Any]:
    """This process's rows → arrays of the global batch, sharded over `data`."""
    sharding = batch_sharded(mesh)
    return jax.tree.map(
        lambda rows: jax.make_array_from_process_local_data(sharding, rows), batch
    )


def per_device(
    function: Callable[[Any, Any, Any], Any], mesh: Mesh
) -> Callable[[Any, Any, Any], Any]:
    """f(variables, rows, key) for every device's own rows, with nothing in common.

    The program of a device is then the same on any number of them.
    """
    return jax.shard_map(
        function,
        mesh=mesh,
        in_specs=(P(), P(DATA_AXIS), P()),
        out_specs=P(DATA_AXIS),
        check_vma=False,
    )


def local_rows(x: jax.Array) -> np.ndarray:
    """This process's rows of an array that is sharded over `data`."""
    shards = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])


def all_rows(tree: Any) -> Any:
    """The rows of all processes, on every process, as NumPy arrays."""
    return multihost_utils.process_allgather(tree, tiled=True)


def prefetch(batches: Iterable[Any], mesh: Mesh) -> Iterator[dict[str, jax.Array]]:
    """`to_global`, one batch ahead, so that a transfer overlaps a step."""
    ahead: dict[str, jax.Array] | None = None
    for batch in batches:
        current, ahead = ahead, to_global(batch, mesh)
        if current is not None:
            yield current
    if ahead is not None:
        yield ahead
