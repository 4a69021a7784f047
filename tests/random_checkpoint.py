"""A checkpoint of SegNeXt-T with random weights, for scripts that need one."""

import numpy as np

from configs import common
from segnext_jax.models.segnext import make_model
from segnext_jax.training.checkpoint import write_weights
from segnext_jax.weights import convert
from segnext_jax.weights.description import Description
from segnext_jax.weights.files import Weights

NAMES = ["sky", "road", "car", "tree"]
PALETTE = [[70, 130, 180], [128, 64, 128], [0, 0, 142], [107, 142, 35]]


def write_random_checkpoint(workdir: str, *, older: bool = False) -> None:
    """Writes it as step 0 of a workdir.

    Args:
      older: its config has of config.eval the batch size alone.
    """
    config = common.base()
    config.model.variant = "T"
    config.model.dtype = "float32"
    config.model.depthwise = "xla"  # compiles several times faster
    weights = Weights(_draw_variables(config), None, {}, "native", [])
    if older:
        with config.unlocked():
            config.eval = {"batch_size": config.eval.batch_size}
    write_weights(workdir, weights, Description(config, NAMES, PALETTE))


def _draw_variables(config):
    shapes = convert.shapes(make_model(config.model, len(NAMES)))
    rng = np.random.default_rng(4)  # with which several classes win

    def draw(path, shape):
        *_, module, name = path.split("/")
        if len(shape) > 1:
            fan_in = np.prod(shape[:-1])
            return rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
        value = {"bias": 0, "mean": 0, "scale": 1, "var": 1}[name]
        if module.startswith("layer_scale"):
            value = 0.1  # else blocks overflow
        return np.full(shape, value, np.float32)

    paths = sorted(shapes, key=lambda path: path.split("/"))
    return convert.unflatten({path: draw(path, shapes[path]) for path in paths})
