"""The weights that a new run starts from: `config.init_from`."""

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segnext_jax.training import checkpoint
from segnext_jax.training.state import TrainState
from segnext_jax.weights import convert, files
from segnext_jax.weights.naming import NATIVE

# What is on top of the backbone, and the part of it whose shape the classes set.
_HEADS = ("decoder", "head")
_CLASSIFIERS = ("decoder/classifier", "head")


def initialize(state: TrainState, config: ConfigDict, mesh: Mesh) -> TrainState:
    """Replaces initial weights and statistics by those of `config.init_from.path`.

    Args:
      state: a run at step 0.
      config: `path` of a checkpoint of this project or of a weight file of another;
        `part`: "all" or "backbone"; `new_classifier`: keep the initial classifier,
        whose classes may then be others.

    Raises:
      FileNotFoundError: if there is nothing at `path`.
      ValueError: if what is there does not fit, tensor by tensor.
      ImportError: for a .pth file without PyTorch.
    """
    if config.part not in ("all", "backbone"):
        raise ValueError(
            f'config.init_from.part is {config.part!r}: use "all" or "backbone"'
        )
    leave_out = [*_HEADS] if config.part == "backbone" else []
    if config.new_classifier:
        leave_out += _CLASSIFIERS
    initial = convert.flatten(
        {"params": state.params, "batch_stats": state.batch_stats}
    )
    shapes = {path: x.shape for path, x in initial.items()}
    try:
        loaded, naming, left_out = _load(config.path, shapes, leave_out, mesh)
    except ValueError as error:
        raise ValueError(f"config.init_from: {error}\n{_HINT}") from None

    variables = jax.tree.map(
        lambda x, old: jax.device_put(x, old.sharding),
        convert.unflatten(initial | loaded),
        {"params": state.params, "batch_stats": state.batch_stats},
    )
    logging.info(
        "Initialised from %s (%s names): %d tensors with %s numbers. %s",
        config.path,
        naming,
        len(loaded),
        f"{sum(np.size(x) for x in loaded.values()):,}",
        _summary(initial.keys() - loaded.keys(), left_out),
    )
    return state.replace(**variables, ema=variables if state.ema is not None else None)


_HINT = (
    'A backbone alone is loaded with config.init_from.part = "backbone", a network of '
    "other classes with config.init_from.new_classifier = True."
)


def _load(path, shapes, leave_out, mesh):
    if files.is_weight_file(path):
        weights = files.read(path, shapes, leave_out)
        return convert.flatten(weights.best), weights.naming, weights.left_out
    saved = checkpoint.restore_weights(checkpoint.locate(path), mesh).best
    imported = convert.adopt(
        {name: np.asarray(x) for name, x in convert.flatten(saved).items()},
        shapes,
        NATIVE,
        origin=path,
        leave_out=leave_out,
    )
    return convert.flatten(imported.variables), NATIVE.label, imported.left_out


def _summary(kept, left_out) -> str:
    modules = sorted({path.rpartition("/")[0] for path in kept})
    return (
        f"Not from there: {', '.join(modules) if modules else 'nothing'}. "
        f"Left there: {', '.join(left_out) if left_out else 'nothing'}."
    )
