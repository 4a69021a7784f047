"""Predicts batches on all devices, one image on each at a time."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jax.stages import Lowered

from segnext_jax.evaluation.inference import predict_image
from segnext_jax.evaluation.metrics import count_pixels
from segnext_jax.evaluation.protocol import Protocol
from segnext_jax.models.segnext import SegNeXt, Variables
from segnext_jax.parallel.mesh import (
    compiler_options,
    local_rows,
    per_device,
    spread,
)


class Segmented(NamedTuple):
    """Of a group of images, one a device; arrays of all processes."""

    pred: jax.Array  # [n h w] uint8
    counts: jax.Array | None  # [n c c] int32, rows are labels; None without labels


class Segmenter:
    """Class maps of images; compiles once for every bucket.

    Every device works on one image at a time, by the same program: so the result of an
    image depends neither on the batch nor on the number of devices.
    """

    def __init__(self, model: SegNeXt, protocol: Protocol, mesh: Mesh):
        self._model, self._protocol, self._mesh = model, protocol, mesh
        self.group_size = len(mesh.local_devices)  # rows of this process
        self._run = jax.jit(
            self._all_devices,
            static_argnames="shape",
            compiler_options=compiler_options(mesh),
        )

    def __call__(
        self,
        variables: Variables,
        batch: dict[str, Any],
        shape: tuple[int, int],
        *,
        key: jax.Array | None = None,
    ) -> np.ndarray:
        """Classes of this process's rows.

        Args:
          variables: weights, on all devices.
          batch: as `data/evaluation.py` makes it, of NumPy arrays.
          shape: (height, width) of the bucket.
          key: draws the NMF's bases, for image i from `fold_in(key, i)`; None: the
            usual bases.

        Returns:
          [b h w] uint8.
        """
        batch = {name: rows for name, rows in batch.items() if name != "label"}
        groups = list(self.groups(batch))
        results = [self.run(variables, group, shape, key=key) for group in groups]
        pred = np.concatenate([local_rows(result.pred) for result in results])
        return pred[: len(batch["mask"])]

    def groups(self, batch: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Splits this process's rows into groups of one image a device, and sends them.

        The last row is repeated, masked, where there are too few.
        """
        num_rows = len(batch["mask"])
        for start in range(0, num_rows, self.group_size):
            rows = np.arange(start, start + self.group_size)
            take = partial(np.take, indices=np.minimum(rows, num_rows - 1), axis=0)
            group = jax.tree.map(take, batch)
            group["mask"] &= rows < num_rows
            yield spread(group, self._mesh)

    def run(self, variables, group, shape, *, key=None) -> Segmented:
        """Starts the program on a group; does not wait for it."""
        return self._run(variables, group, key, shape=shape)

    def lower(self, variables, group, shape) -> Lowered:
        """`run` of arrays without values, to be compiled ahead of time."""
        return self._run.lower(variables, group, None, shape=shape)

    def _all_devices(self, variables, group, key, *, shape) -> Segmented:
        def one_device(variables, row, key) -> Segmented:
            pred = predict_image(
                self._model,
                variables,
                row["views"],
                shape,
                self._protocol,
                size=row.get("size"),
                view_sizes=row.get("view_sizes"),
                key=None if key is None else jax.random.fold_in(key, row["index"][0]),
            )
            if "label" not in row:
                return Segmented(pred, None)
            num_classes = self._model.decoder.num_classes
            counts = count_pixels(row["label"], pred, row["mask"], num_classes)
            return Segmented(pred, counts[None])

        return per_device(one_device, self._mesh)(variables, group, key)
