"""A checkpoint made ready to predict."""

from collections.abc import Callable
from typing import NamedTuple

from jax.sharding import Mesh
from ml_collections import ConfigDict

from segnext_jax.evaluation.protocol import Protocol
from segnext_jax.evaluation.segmenter import Segmenter
from segnext_jax.models.segnext import Variables, make_model
from segnext_jax.training import checkpoint


class Predictor(NamedTuple):
    """Called by way of `segmenter(variables, batch, shape)`."""

    location: checkpoint.Location
    classes: list[str]
    palette: list[list[int]]  # RGB 0..255
    eval_config: ConfigDict  # for the views that data/evaluation.py makes
    segmenter: Segmenter
    variables: Variables


def load_predictor(
    path: str, complete: Callable[[ConfigDict], ConfigDict], mesh: Mesh
) -> Predictor:
    """Reads a checkpoint, for all devices of the mesh.

    Args:
      path: a workdir or a step in it.
      complete: the config in the checkpoint → the one to predict by.
      mesh: of one process.

    Raises FileNotFoundError without a checkpoint; ValueError for one of classification,
    and for values of config.eval that make no sense.
    """
    location = checkpoint.locate(path)
    description = checkpoint.describe(location)
    if description.config.task != "segmentation":
        raise ValueError(
            f"{path} is a checkpoint of {description.config.task}: only segmentation"
            " has class maps to predict"
        )
    config = complete(description.config)
    protocol = Protocol.from_config(config.eval)
    model = make_model(config.model, len(description.classes))
    return Predictor(
        location,
        description.classes,
        description.palette,
        config.eval,
        Segmenter(model, protocol, mesh),
        checkpoint.restore_weights(location, mesh).best,
    )
