"""Trains a network: python train.py --config configs/mscan_t.py

Starting it again with the same config and workdir resumes the run.
"""

import os
import sys
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow only reads files here
# What is compiled is kept for the next start: docs/performance.md.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/segnext_jax")
)
os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(4 * 2**30))

import jax
import tensorflow as tf
from absl import app, flags, logging
from clu import metric_writers
from jax.sharding import Mesh
from ml_collections import ConfigDict, config_flags

from data import classification, evaluation, pipeline
from data.sources import make_classification_source, make_source
from segnext_jax.parallel.liveness import ending_together
from segnext_jax.parallel.mesh import data_shard, make_mesh
from segnext_jax.parallel.processes import check_shared, start_processes
from segnext_jax.training.interruption import Interrupted
from segnext_jax.training.loop import Data, train
from segnext_jax.visual.console import (
    name_misspelt_key,
    quiet_libraries,
    quiet_process,
)

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Recipe, e.g. configs/mscan_t.py or configs/mscan_b.py:official."
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Checkpoints, logs and results; runs/<name of the config> if unset.",
)
_MULTI_PROCESS = flags.DEFINE_bool(
    "multi_process", False, "Find the other processes of the run: docs/clusters.md."
)
_COORDINATOR_ADDRESS = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, if they are not to be found."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of the run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    quiet_libraries()
    start_processes(
        _COORDINATOR_ADDRESS.value,
        _NUM_PROCESSES.value,
        _PROCESS_ID.value,
        find=_MULTI_PROCESS.value,
    )
    quiet_process(jax.process_index())
    tf.config.set_visible_devices([], "GPU")  # else it takes the memory JAX needs
    with ending_together():
        _train(_CONFIG.value, _WORKDIR.value or _default_workdir())


def _train(config: ConfigDict, workdir: str) -> None:
    logging.info("Devices: %s. Workdir: %s", jax.devices(), workdir)
    check_shared("--workdir", workdir)

    mesh = make_mesh(data=config.mesh.data, spatial=config.mesh.spatial)
    data = _make_data(config, mesh)
    writer = metric_writers.create_default_writer(
        workdir, just_logging=jax.process_index() > 0
    )
    try:
        train(config, data, workdir=workdir, writer=writer, mesh=mesh)
    except Interrupted as reason:
        logging.warning("Interrupted: %s. The same command resumes the run.", reason)
        sys.exit(os.EX_TEMPFAIL)  # for whoever started it to do that
    finally:
        writer.close()


def _make_data(config: ConfigDict, mesh: Mesh) -> Data:
    """This process's share of the data that the config names."""
    index, count = data_shard(mesh)
    training = dict(
        seed=config.seed,
        batch_size=config.train.batch_size,
        shard_index=index,
        shard_count=count,
    )
    validation = dict(
        batch_size=config.eval.batch_size,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
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
