"""Scores a checkpoint: python eval.py --checkpoint WORKDIR_OR_STEP

    [--protocol official|paddle|mmseg1x [--multi_scale]] [--output DIR] …

A workdir stands for its best checkpoint, WORKDIR/checkpoints/STEP for that one. Data
and protocol are those of its config unless flags say otherwise: docs/evaluation.md.
"""

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow only reads files here
# What is compiled is kept for the next start: docs/performance.md.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/segnext_jax")
)
os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(4 * 2**30))

import jax
import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from configs import common, protocols
from data import classification
from data.evaluation import EvalReader
from data.sources import Record, Source, make_classification_source, make_source
from data.test_server import LabelIdWriter
from segnext_jax.evaluation import report
from segnext_jax.evaluation.inspection import Inspection
from segnext_jax.parallel.environment import environment
from segnext_jax.parallel.liveness import ending_together
from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.parallel.processes import start_processes
from segnext_jax.training import checkpoint
from segnext_jax.training.classification import Classification
from segnext_jax.training.segmentation import Segmentation
from segnext_jax.visual.console import (
    name_misspelt_key,
    quiet_libraries,
    quiet_process,
)
from segnext_jax.visual.evaluation_page import describe_draws
from segnext_jax.weights.description import Description

_NUM_WORST = 20  # images in the report

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "A workdir, or one step in its checkpoints/.", required=True
)
_PROTOCOL = flags.DEFINE_enum(
    "protocol", None, protocols.NAMES, "Published protocol to score by."
)
_MULTI_SCALE = flags.DEFINE_bool(
    "multi_scale", False, "With the scales of --protocol, and flip."
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for report.html, metrics.json, per_image.json and more."
)
_TEST_SERVER = flags.DEFINE_string(
    "test_server", None, "Folder for predictions as PNGs of the data set's label ids."
)
_NMF_DRAWS = flags.DEFINE_integer(
    "nmf_draws", 0, "Score that often with random NMF bases, too.", lower_bound=0
)
_MULTI_PROCESS = flags.DEFINE_bool(
    "multi_process", False, "Find the other processes of the run: docs/clusters.md."
)
_COORDINATOR_ADDRESS = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of process 0, if they are not to be found."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of the run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
_ROOT = flags.DEFINE_string("data.root", None, "Data set; the checkpoint's if unset.")
_SPLIT = flags.DEFINE_string(
    "data.val_split", None, "Split; the checkpoint's if unset."
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    if _MULTI_SCALE.value and _PROTOCOL.value is None:
        raise app.UsageError("--multi_scale is of a --protocol; or use --eval.scales")
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
        _evaluate()


def _evaluate() -> None:
    location = checkpoint.locate(_CHECKPOINT.value)
    description = checkpoint.describe(location)
    config = _make_config(description.config)
    if _OUTPUT.value and jax.process_index() == 0:
        tf.io.gfile.makedirs(_OUTPUT.value)  # before the work, not after it
    is_classification = config.task == "classification"
    evaluate = _classify if is_classification else _segment
    evaluate(config, location, description)


def _segment(
    config: ConfigDict, location: checkpoint.Location, description: Description
) -> None:
    source = _Named(make_source(config.data, config.data.val_split), config.data.root)
    checkpoint.check_classes(description, source.classes.names, config.data.root)
    reader = EvalReader(
        source,
        config.eval,
        batch_size=config.eval.batch_size,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
    mesh = make_mesh()
    classes, absent = description.classes, config.eval.absent_class
    task = Segmentation(config, classes, description.palette)
    evaluator = task.make_evaluator(mesh)
    inspection = Inspection(len(classes), _NUM_WORST if _OUTPUT.value else 0)
    _log_start(config, location, len(source))
    sizes = reader.sizes  # reading them tells the names, too
    server = None
    if _TEST_SERVER.value:
        server = LabelIdWriter(_TEST_SERVER.value, source.classes, source.names)
    variables = checkpoint.restore_weights(location, mesh).best

    with _progress(len(source)) as bar:

        def on_image(index: int, image, label, pred) -> None:
            inspection(index, image, label, pred)
            if server:
                server.write(index, pred)
            bar.update()

        evaluation = evaluator(variables, reader(), num_examples=0, on_image=on_image)

    def draw(k: int) -> float:
        with _progress(len(source), f"draw {k + 1}") as bar:
            drawn = evaluator(
                variables,
                reader(),
                num_examples=0,
                key=jax.random.key(k),
                on_image=lambda *_: bar.update(),
            )
        return drawn.confusion.compute(absent)["miou"]

    scores = report.make_scores(evaluation, inspection.boundary(), classes, absent)
    draws = report.make_draws([draw(k) for k in range(_NMF_DRAWS.value)])
    worst = inspection.worst()
    if jax.process_index() > 0:
        return
    print(report.describe(scores))
    if draws:
        print(describe_draws(draws))
    print(task.summary(evaluation))
    if _OUTPUT.value:
        report.write_report(
            _OUTPUT.value,
            scores | {"nmf_draws": draws} | _circumstances(config, location),
            report.image_scores(evaluation.images, classes, source.names, sizes),
            worst,
            source.names,
            description.palette,
        )
        print(f"{_OUTPUT.value}: report.html and its data are written.")


def _classify(
    config: ConfigDict, location: checkpoint.Location, description: Description
) -> None:
    for flag in (_TEST_SERVER, _NMF_DRAWS):
        if flag.value:
            raise app.UsageError(f"--{flag.name} is of segmentation")
    images = make_classification_source(config.data, config.data.val_split)
    checkpoint.check_classes(description, images.classes, config.data.root)
    mesh = make_mesh()
    task = Classification(config, description.classes)
    evaluator = task.make_evaluator(mesh)
    batches = classification.eval_batches(
        images,
        config.data,
        batch_size=config.eval.batch_size,
        shard_index=jax.process_index(),
        shard_count=jax.process_count(),
    )
    _log_start(config, location, len(images))
    variables = checkpoint.restore_weights(location, mesh).best
    with _progress(len(images)) as bar:
        evaluation = evaluator(variables, _counted(batches, bar))
    if jax.process_index() > 0:
        return
    print(task.summary(evaluation))
    if _OUTPUT.value:
        path = os.path.join(_OUTPUT.value, "metrics.json")
        scores = {"num_images": evaluation.num_images, **task.metrics(evaluation)}
        scores |= _circumstances(config, location)
        with tf.io.gfile.GFile(path, "w") as file:
            file.write(json.dumps(scores, indent=2) + "\n")
        print(f"{path} is written.")


class _Named:
    """A source that remembers what the records are called that were read."""

    def __init__(self, source: Source, root: str) -> None:
        self.classes = source.classes
        self.names: dict[int, str] = {}
        self._source, self._root = source, os.path.join(root, "")

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        record = self._source[index]
        self.names[index] = record.name.removeprefix(self._root)
        return record


def _make_config(config: ConfigDict) -> ConfigDict:
    """The checkpoint's, with what the flags say."""
    config = common.complete(config)
    if _PROTOCOL.value:
        protocols.apply(config, _PROTOCOL.value, multi_scale=_MULTI_SCALE.value)
    for key, value in _overrides().items():
        if key not in config.eval:
            raise app.UsageError(f"--eval.{key} is of segmentation")
        config.eval[key] = value
    if _ROOT.value is not None:
        config.data.root = _ROOT.value
    if _SPLIT.value is not None:
        config.data.val_split = _SPLIT.value
    return config


def _overrides() -> dict[str, Any]:
    """Values of the flags --eval.*."""
    return config_flags.get_override_values(flags.FLAGS["eval"])


def _circumstances(config: ConfigDict, location: checkpoint.Location) -> dict[str, Any]:
    """What the scores were computed from and with, for metrics.json."""
    form = "multi-scale" if _MULTI_SCALE.value else ""
    return {
        "checkpoint": _CHECKPOINT.value,
        "step": location.step,
        "protocol": " ".join(filter(None, (_PROTOCOL.value, form))) or None,
        "overrides": _overrides(),
        "eval": config.to_dict()["eval"],
        "data": {
            "source": config.data.source,
            "root": config.data.root,
            "split": config.data.val_split,
        },
        "environment": environment(),
    }


def _log_start(
    config: ConfigDict, location: checkpoint.Location, num_images: int
) -> None:
    logging.info(
        "Evaluating step %d of %s on %d images of %s.",
        location.step,
        location.workdir,
        num_images,
        config.data.root,
    )
    values = (f"{key} {value}" for key, value in config.to_dict()["eval"].items())
    logging.info("config.eval: %s.", ", ".join(values))


def _progress(num_images: int, title: str | None = None) -> tqdm:
    """A bar of this process's images, on a terminal alone."""
    share = -(-num_images // jax.process_count())
    is_hidden = True if jax.process_index() else None  # None: without a terminal
    return tqdm(total=share, desc=title, unit=" images", disable=is_hidden)


def _counted(batches: Iterable[dict[str, np.ndarray]], bar: tqdm) -> Iterator[Any]:
    for batch in batches:
        yield batch
        bar.update(int(batch["mask"].sum()))


def _parse_flags(argv: list[str]) -> list[str]:
    # Here and not above: it reads the command line at once, and may fail.
    config_flags.DEFINE_config_dict(
        "eval", common.base().eval, "The checkpoint's, or the protocol's, if unset."
    )
    return app.parse_flags_with_usage(argv)


if __name__ == "__main__":
    app.run(main, flags_parser=name_misspelt_key(_parse_flags))
