"""Trains a network: python train.py --config configs/mscan_t.py

Starting it again with the same config and workdir resumes the run.
"""

import os
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow only reads files here

import jax
import tensorflow as tf
from absl import app, flags, logging
from clu import metric_writers
from ml_collections import ConfigDict, config_flags

from data import classification, evaluation, pipeline
from data.sources import make_classification_source, make_source
from segnext_jax.training.loop import Data, train
from segnext_jax.visual.console import name_misspelt_key, quiet_libraries

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Recipe, e.g. configs/mscan_t.py or configs/mscan_b.py:official."
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Checkpoints, logs and results; runs/<name of the config> if unset.",
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
    config = _CONFIG.value
    workdir = _WORKDIR.value or _default_workdir()
    logging.info("Devices: %s. Workdir: %s", jax.devices(), workdir)

    data = _make_data(config)
    writer = metric_writers.create_default_writer(
        workdir, just_logging=jax.process_index() > 0
    )
    try:
        train(config, data, workdir=workdir, writer=writer)
    finally:
        writer.close()


def _make_data(config: ConfigDict) -> Data:
    """This process's share of the data that the config names."""
    shard = dict(shard_index=jax.process_index(), shard_count=jax.process_count())
    training = dict(seed=config.seed, batch_size=config.train.batch_size, **shard)
    validation = dict(batch_size=config.eval.batch_size, **shard)
    splits = config.data.train_split, config.data.val_split
    if config.task == "classification":
        images, val_images = (
            make_classification_source(config.data, split) for split in splits
        )
        return Data(
            train_batches=lambda start_step: classification.train_stream(
                images, config.data, start_step=start_step, **training
            ),
            eval_batches=partial(
                classification.eval_batches, val_images, config.data, **validation
            ),
            classes=images.classes,
        )
    pairs, val_pairs = (make_source(config.data, split) for split in splits)
    return Data(
        train_batches=lambda start_step: pipeline.train_stream(
            pairs, config.data, start_step=start_step, **training
        ),
        eval_batches=evaluation.EvalReader(val_pairs, config.eval, **validation),
        classes=pairs.classes.names,
        palette=pairs.classes.palette,
    )


def _default_workdir() -> str:
    path = Path(config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0])
    return str(Path("runs") / path.stem)


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=name_misspelt_key(app.parse_flags_with_usage))
