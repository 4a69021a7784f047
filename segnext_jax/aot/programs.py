"""The programs of a run, traced for devices that are not here."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.stages import Lowered
from ml_collections import ConfigDict

from segnext_jax.evaluation.protocol import Protocol
from segnext_jax.evaluation.segmenter import Segmenter
from segnext_jax.training.program import make_program
from segnext_jax.training.segmentation import Segmentation
from segnext_jax.training.task import make_task

PROGRAMS = ("train", "eval")


def lower(
    program: str,
    config: ConfigDict,
    num_classes: int,
    mesh: Mesh,
    *,
    platform: str,
    eval_size: tuple[int, int],
) -> Lowered:
    """The train step of a run, or its evaluation of one image on each device.

    Args:
      program: "train" or "eval".
      config: the whole config; `config.mesh` is not read.
      num_classes: of the data set.
      mesh: devices of one platform, here or not.
      platform: what `jax.default_backend()` is there.
      eval_size: (height, width) of the images to evaluate.

    Raises:
      ValueError: if the config cannot be evaluated so, or fits neither itself nor the
        mesh.
    """
    classes = [f"class {i}" for i in range(num_classes)]
    task = make_task(config, classes, [(0, 0, 0)] * num_classes)
    step = make_program(config, task, mesh)
    with _default_backend(platform):
        if program == "train":
            return step.train_step.lower(step.abstract_state, step.abstract_batch)
        if not isinstance(task, Segmentation):
            raise ValueError(
                f"config.task is {config.task!r}: only the evaluation of "
                "segmentation gives every device an image; use --program train"
            )
        segmenter = Segmenter(task.model, Protocol.from_config(config.eval), mesh)
        return segmenter.lower(
            step.abstract_state.eval_variables,
            _group(config.eval.scales, mesh, eval_size),
            shape=eval_size,
        )


def _group(scales: Sequence[float], mesh: Mesh, size: tuple[int, int]):
    """One image of this size a device, as `Segmenter.groups` makes them."""
    sharding = NamedSharding(mesh, P(mesh.axis_names))

    def rows(dtype, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((mesh.size, *shape), dtype, sharding=sharding)

    sizes = [tuple(round(side * scale) for side in size) for scale in scales]
    return {
        "views": [rows(jnp.uint8, *view, 3) for view in sizes],
        "label": rows(jnp.uint8, *size),
        "mask": rows(jnp.bool_),
        "index": rows(jnp.int32),
    }


@contextmanager
def _default_backend(platform: str) -> Iterator[None]:
    """What is chosen by the default platform while tracing is what runs there.

    JAX makes no backend the default that has no device.
    """
    with mock.patch.object(jax, "default_backend", lambda: platform):
        yield
