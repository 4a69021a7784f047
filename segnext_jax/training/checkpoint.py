"""Checkpoints that describe themselves, and the rule that a run keeps its config."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict
from orbax.checkpoint import checkpoint_managers

from segnext_jax.models.segnext import Variables
from segnext_jax.parallel.mesh import replicated
from segnext_jax.training.state import TrainState

_DIRECTORY = "checkpoints"
_BEST = "val/miou"


class Description(NamedTuple):
    """What a checkpoint says of itself beside its weights."""

    config: ConfigDict
    classes: list[str]
    palette: list[list[int]]


class Checkpointer:
    """Saves a run asynchronously; keeps the last N and the best by `val/miou`."""

    def __init__(self, workdir: str, description: Description, *, keep: int):
        policy = checkpoint_managers.AnyPreservationPolicy(
            [
                checkpoint_managers.LatestN(keep),
                checkpoint_managers.BestN(get_metric_fn=_score, n=1),
            ]
        )
        self._description = {
            "config": description.config.to_dict(),
            "classes": list(description.classes),
            "palette": [list(colour) for colour in description.palette],
        }
        self._manager = ocp.CheckpointManager(
            _directory(workdir),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy, best_fn=_score
            ),
        )

    def restore_latest(self, abstract_state: TrainState) -> TrainState | None:
        """The newest state, in the shardings of `abstract_state`; None at the start."""
        step = self._manager.latest_step()
        if step is None:
            return None
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract_state)),
        )
        return restored.state

    def save(self, state: TrainState, miou: float | None) -> None:
        """Writes in the background; a checkpoint of this step is not written again."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                description=ocp.args.JsonSave(self._description),
            ),
            metrics={_BEST: miou},
        )

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
    return Description(
        ConfigDict(restored["config"]), restored["classes"], restored["palette"]
    )


def restore_variables(location: Location, mesh: Mesh) -> Variables:
    """What is evaluated: the averaged weights and statistics where there are any.

    Reads neither the optimizer nor anything of the devices it was trained on.
    """
    with _open_readonly(location.workdir) as manager:
        saved = manager.item_metadata(location.step).state.tree
        prefix = saved if saved["ema"] is None else saved["ema"]
        wanted = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)),
            {name: prefix[name] for name in ("params", "batch_stats")},
        )
        if saved["ema"] is not None:
            wanted = {"ema": wanted}
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
    return restored if saved["ema"] is None else restored["ema"]


def check_classes(
    description: Description, classes: Sequence[str], origin: str
) -> None:
    """Raises ValueError unless the checkpoint was trained on these classes."""
    if list(description.classes) != list(classes):
        raise ValueError(
            f"the checkpoint has {len(description.classes)} classes "
            f"({', '.join(description.classes)}) but {origin} has {len(classes)} "
            f"({', '.join(classes)}): evaluate it on data of its own classes"
        )


def check_config(workdir: str, config: ConfigDict) -> None:
    """Writes the config of a new run; holds a resumed one to it.

    Raises:
      ValueError: if a value differs from that of the run in `workdir`, with a list.
    """
    path = epath.Path(workdir) / "config.json"
    # Through JSON, where tuples are lists, on both sides.
    current = json.loads(config.to_json())
    if not path.exists():
        if jax.process_index() == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(current, indent=2) + "\n")
        return
    before, now = (_flatten(tree) for tree in (json.loads(path.read_text()), current))
    missing = "(absent)"
    changes = [
        f"  config.{key}: {before.get(key, missing)} → {now.get(key, missing)}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, missing) != now.get(key, missing)
    ]
    if changes:
        raise ValueError(
            f"the run in {workdir} was started with another config:\n"
            + "\n".join(changes)
            + "\nrestore these values to resume it, or choose another --workdir"
        )


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _score(metrics: dict[str, float | None]) -> float:
    """The mIoU; below any other where the checkpoint was not evaluated."""
    miou = metrics[_BEST]
    return -1.0 if miou is None or math.isnan(miou) else miou


def _directory(workdir) -> epath.Path:
    return epath.Path(workdir).absolute() / _DIRECTORY


def _open_readonly(workdir) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        _directory(workdir),
        options=ocp.CheckpointManagerOptions(read_only=True, best_fn=_score),
        item_handlers={
            "state": ocp.PyTreeCheckpointHandler(),
            "description": ocp.JsonCheckpointHandler(),
        },
    )
