"""Scores a checkpoint: python eval.py --checkpoint WORKDIR_OR_STEP

A workdir stands for its best checkpoint, WORKDIR/checkpoints/STEP for that one. Flags
take other data than it was trained with, e.g. --data.root.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow only reads files here

import jax
import tensorflow as tf
from absl import app, flags, logging

from data.pipeline import eval_batches
from data.sources import make_source
from segnext_jax.evaluation.evaluator import Evaluator
from segnext_jax.models.segnext import make_model
from segnext_jax.parallel.mesh import check_batch_size, make_mesh
from segnext_jax.training import checkpoint
from segnext_jax.visual.console import quiet_libraries
from segnext_jax.visual.tables import per_class_table

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
    config = description.config
    if _ROOT.value is not None:
        config.data.root = _ROOT.value
    if _SPLIT.value is not None:
        config.data.val_split = _SPLIT.value
    if _BATCH_SIZE.value is not None:
        config.eval.batch_size = _BATCH_SIZE.value

    source = make_source(config.data, config.data.val_split)
    checkpoint.check_classes(description, source.classes.names, config.data.root)
    mesh = make_mesh()
    check_batch_size("eval.batch_size", config.eval.batch_size, mesh)
    logging.info(
        "Evaluating step %d of %s on %d images of %s.",
        location.step,
        location.workdir,
        len(source),
        config.data.root,
    )

    model = make_model(config.model, source.classes.num_classes)
    variables = checkpoint.restore_variables(location, mesh)
    evaluation = Evaluator(model, source.classes.num_classes, mesh)(
        variables,
        eval_batches(
            source,
            batch_size=config.eval.batch_size,
            shard_index=jax.process_index(),
            shard_count=jax.process_count(),
        ),
    )
    scores = evaluation.confusion.compute()
    print(
        per_class_table(
            source.classes.names,
            scores["iou"],
            scores["class_accuracy"],
            scores["share"],
        )
    )
    print(
        f"mIoU {100 * scores['miou']:.2f} %, pixel accuracy "
        f"{100 * scores['accuracy']:.2f} % on {evaluation.num_images} images"
    )


if __name__ == "__main__":
    app.run(main)
