"""The device mesh: the only place that names its axes."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
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


def to_global(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows → arrays of the global batch, sharded over `data`."""
    sharding = batch_sharded(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, rows)
        for name, rows in batch.items()
    }


def prefetch(batches: Iterable[Any], mesh: Mesh) -> Iterator[dict[str, jax.Array]]:
    """`to_global`, one batch ahead, so that a transfer overlaps a step."""
    ahead: dict[str, jax.Array] | None = None
    for batch in batches:
        current, ahead = ahead, to_global(batch, mesh)
        if current is not None:
            yield current
    if ahead is not None:
        yield ahead
