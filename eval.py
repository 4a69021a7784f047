"""Scores a checkpoint: python eval.py --checkpoint WORKDIR_OR_STEP

A workdir stands for its best checkpoint, WORKDIR/checkpoints/STEP for that one. Flags
take other data than it was trained with, e.g. --data.root.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow only reads files here

import jax
import tensorflow as tf
from absl import app, flags, logging
from ml_collections import ConfigDict

from configs import common
from data import classification, pipeline
from data.sources import make_classification_source, make_source
from segnext_jax.parallel.mesh import check_batch_size, make_mesh
from segnext_jax.training import checkpoint
from segnext_jax.training.task import make_task
from segnext_jax.visual.console import quiet_libraries

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "A workdir, or one step in its checkpoints/.", required=True
)
_ROOT = flags.DEFINE_string("data.root", None, "Data set; the checkpoint's if unset.")
_SPLIT = flags.DEFINE_string(
    "data.val_split", None, "Split; the checkpoint's if unset."
)
_BATCH_SIZE = flags.DEFINE_integer(
    "eval.batch_size", None, "Of all devices together; the checkpoint's if unset."
)

_MULTI_PROCESS = flags.DEFINE_bool(
    "multi_process", False, "One process a host of a TPU pod or Slurm job; see README."
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    quiet_libraries()
    if _MULTI_PROCESS.value:
        jax.distributed.initialize()
    tf.config.set_visible_devices([], "GPU")  # else it takes the memory JAX needs
    location = checkpoint.locate(_CHECKPOINT.value)
    description = checkpoint.describe(location)
    config = _complete(description.config)
    if _ROOT.value is not None:
        config.data.root = _ROOT.value
    if _SPLIT.value is not None:
        config.data.val_split = _SPLIT.value
    if _BATCH_SIZE.value is not None:
        config.eval.batch_size = _BATCH_SIZE.value

    classes, num_images, batches = _make_data(config)
    checkpoint.check_classes(description, classes, config.data.root)
    mesh = make_mesh()
    check_batch_size("eval.batch_size", config.eval.batch_size, mesh)
    logging.info(
        "Evaluating step %d of %s on %d images of %s.",
        location.step,
        location.workdir,
        num_images,
        config.data.root,
    )

    task = make_task(config, description.classes, description.palette)
    variables = checkpoint.restore_weights(location, mesh).best
    evaluation = task.make_evaluator(mesh)(variables, batches())
    print(task.details(evaluation))


def _complete(config: ConfigDict) -> ConfigDict:
    """Gives keys that are newer than the checkpoint their usual values."""
    complete = common.base(config.task)
    with complete.unlocked():
        complete.update(config)
    return complete


def _make_data(config: ConfigDict) -> tuple[Sequence[str], int, Callable[[], Iterator]]:
    """Classes, number of images, and this process's share of the batches."""
    options = dict(
        batch_size=config.eval.batch_size,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
    if config.task == "classification":
        images = make_classification_source(config.data, config.data.val_split)
        batches = partial(classification.eval_batches, images, config.data, **options)
        return images.classes, len(images), batches
    pairs = make_source(config.data, config.data.val_split)
    batches = partial(pipeline.eval_batches, pairs, **options)
    return pairs.classes.names, len(pairs), batches


if __name__ == "__main__":
    app.run(main)
