"""Checkpoints that describe themselves, and the rule that a run keeps its config."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers

from segnext_jax.parallel.mesh import replicated
from segnext_jax.training.state import TrainState
from segnext_jax.weights.description import Description
from segnext_jax.weights.files import Weights, native_extra
from segnext_jax.weights.naming import NATIVE

_DIRECTORY = "checkpoints"
_CONFIG = "config.json"
# What a run may be resumed with another value of: how it is computed, not what.
_FREE = ("mesh.data", "mesh.spatial", "remat")


class Checkpointer:
    """Saves a run asynchronously; keeps the last N and the best.

    `score` is the name of what the best has most of, e.g. "miou".
    """

    def __init__(
        self, workdir: str, description: Description, *, score: str, keep: int
    ):
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep),
                checkpoint_managers.BestN(get_metric_fn=_score, n=1),
            ]
        )
        self._score = score
        self._description = description.to_json()
        self._manager = ocp.CheckpointManager(
            _directory(workdir),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy, best_fn=_score
            ),
            item_handlers=_handlers(),
        )

    def restore_latest(self, abstract_state: TrainState) -> TrainState | None:
        """The newest state, in the shardings of `abstract_state`; None at the start."""
        step = self._manager.latest_step()
        if step is None:
            return None
        restore = ocp.args.PyTreeRestore(
            abstract_state,
            restore_args=ocp.checkpoint_utils.construct_restore_args(abstract_state),
        )
        restored = self._manager.restore(step, args=ocp.args.Composite(state=restore))
        return restored.state

    def save(self, state: TrainState, score: float | None) -> None:
        """Writes in the background; a checkpoint of this step is not written again."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeSave(state),
                description=ocp.args.JsonSave(self._description),
            ),
            metrics={self._score: score},
        )

    def score(self, step: int) -> float | None:
        """What the checkpoint of this step was saved with."""
        metrics = self._manager.metrics(step)
        return None if metrics is None else metrics[self._score]

    def write_score(self, step: int, score: float) -> None:
        """Gives it to a checkpoint that was saved without."""
        if jax.process_index() == 0:
            path = self._manager.directory / str(step) / "metrics" / "metrics"
            _write(path, json.dumps({self._score: score}))
        multihost_utils.sync_global_devices(f"score of step {step}")
        self._manager.reload()

    def close(self) -> None:
        """Waits for the last write."""
        self._manager.wait_until_finished()
        self._manager.close()


class Location(NamedTuple):
    workdir: epath.Path
    step: int


def locate(path: str) -> Location:
    """Finds a checkpoint from a workdir (its best, else its newest) or a step in it.

    Raises:
      FileNotFoundError: if there is none.
    """
    given = epath.Path(path)
    if given.parent.name == _DIRECTORY and given.name.isdigit():
        if not given.exists():
            steps = ocp.utils.checkpoint_steps(given.parent)
            raise FileNotFoundError(
                f"no checkpoint {given}: {given.parent} has the steps {sorted(steps)}"
            )
        return Location(given.parent.parent, int(given.name))
    if not (given / _DIRECTORY).exists():
        raise FileNotFoundError(
            f"no checkpoint in {given}: give the --workdir of a training run or one "
            f"of the folders in its {_DIRECTORY}/"
        )
    with _open_readonly(given) as manager:
        step = manager.best_step()
    if step is None:
        raise FileNotFoundError(f"no finished checkpoint in {given / _DIRECTORY}")
    return Location(given, step)


def describe(location: Location) -> Description:
    """What the checkpoint says of itself."""
    with _open_readonly(location.workdir) as manager:
        restored = manager.restore(
            location.step, args=ocp.args.Composite(description=ocp.args.JsonRestore())
        ).description
    return Description.from_json(restored)


def restore_weights(location: Location, mesh: Mesh) -> Weights:
    """Weights, statistics and, where there is one, their average.

    Reads neither the optimizer nor anything of the devices it was trained on.
    """
    origin = describe(location).origin
    with _open_readonly(location.workdir) as manager:
        saved = manager.item_metadata(location.step).state.tree
        wanted = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)),
            {name: saved[name] for name in ("params", "batch_stats", "ema")},
        )
        restored = manager.restore(
            location.step,
            args=ocp.args.Composite(
                state=ocp.args.PyTreeRestore(
                    wanted,
                    restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
                    partial_restore=True,
                )
            ),
        ).state
    average = restored.pop("ema")
    extra = native_extra(restored, location.step) if origin is None else origin
    return Weights(restored, average, extra, NATIVE.label, left_out=[])


def write_weights(workdir: str, weights: Weights, description: Description) -> None:
    """Writes weights without a run as step 0 of a new workdir.

    Raises FileExistsError if the workdir has checkpoints.
    """
    if _steps(workdir):
        raise FileExistsError(f"{workdir} has checkpoints: choose another folder")
    description = description._replace(origin=weights.extra)
    options = ocp.CheckpointManagerOptions(best_fn=_score)
    with ocp.CheckpointManager(_directory(workdir), options=options) as manager:
        manager.save(
            0,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(
                    {**weights.variables, "ema": weights.average}
                ),
                description=ocp.args.JsonSave(description.to_json()),
            ),
            metrics={"score": None},
        )


def check_classes(
    description: Description, classes: Sequence[str], origin: str
) -> None:
    """Raises ValueError unless the checkpoint was trained on these classes."""
    if list(description.classes) != list(classes):
        raise ValueError(
            f"the checkpoint has {len(description.classes)} classes "
            f"({_join(description.classes)}) but {origin} has {len(classes)} "
            f"({_join(classes)}): evaluate it on data of its own classes"
        )


def _join(names: Sequence[str]) -> str:
    return ", ".join([*names[:20], *(["…"] if len(names) > 20 else [])])


def check_config(workdir: str, config: ConfigDict) -> None:
    """Holds a run that is resumed to its config.

    Raises:
      ValueError: if a value differs from that of the run in `workdir`, with a list,
        other than of mesh and remat; if what is there is no run but converted weights.
    """
    path = epath.Path(workdir) / _CONFIG
    if not path.exists():
        if _steps(workdir):
            raise ValueError(
                f"{workdir} has weights that were converted, and no run to resume: "
                f"choose another --workdir, with --config.init_from.path={workdir}"
            )
        return
    before, now = (_flatten(x) for x in (json.loads(path.read_text()), _plain(config)))
    absent = dict.fromkeys(before.keys() | now.keys(), "(absent)")
    before, now = absent | before, absent | now
    changes = [
        f"  config.{key}: {before[key]} → {now[key]}"
        for key in sorted(absent)
        if before[key] != now[key] and key not in _FREE
    ]
    if changes:
        raise ValueError(
            f"the run in {workdir} was started with another config:\n"
            + "\n".join(changes)
            + "\nrestore these values to resume it, or choose another --workdir"
        )


def write_config(workdir: str, config: ConfigDict) -> None:
    """Writes what `check_config` will compare with, once a run is sure to start."""
    path = epath.Path(workdir) / _CONFIG
    if jax.process_index() == 0 and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, json.dumps(_plain(config), indent=2) + "\n")


def _write(path: epath.Path, text: str) -> None:
    """The whole text or, if the process is killed, nothing of it."""
    written = path.with_name(f"{path.name}.new")
    written.write_text(text)
    written.replace(path)


def _plain(config: ConfigDict) -> dict[str, Any]:
    return json.loads(config.to_json())  # where tuples are lists


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _score(metrics: dict[str, float | None]) -> float:
    """The one score; below any other where the checkpoint was not evaluated."""
    (score,) = metrics.values()
    return -1.0 if score is None or math.isnan(score) else score


def _steps(workdir) -> list[int]:
    directory = _directory(workdir)
    return ocp.utils.checkpoint_steps(directory) if directory.exists() else []


def _handlers() -> dict[str, ocp.CheckpointHandler]:
    # Orbax would write a slice of an array from each device that has it, and for that
    # compile a program for every shape: 30 s of a CPU at the first save instead of one.
    handler = ocp.type_handlers.ArrayHandler(use_replica_parallel=False)
    registry = ocp.type_handlers.create_type_handler_registry(
        (jax.Array, handler),
        (np.ndarray, ocp.type_handlers.NumpyHandler()),  # of write_weights
    )
    return {
        "state": ocp.PyTreeCheckpointHandler(type_handler_registry=registry),
        "description": ocp.JsonCheckpointHandler(),
    }


def _directory(workdir) -> epath.Path:
    return epath.Path(workdir).absolute() / _DIRECTORY


def _open_readonly(workdir) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        _directory(workdir),
        options=ocp.CheckpointManagerOptions(read_only=True, best_fn=_score),
        item_handlers=_handlers(),
    )
