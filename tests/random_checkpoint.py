"""A checkpoint of SegNeXt-T with random weights, for scripts that need one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from configs import common
from segnext_jax.models.segnext import make_model
from segnext_jax.training.checkpoint import write_weights
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
    model = make_model(config.model, len(NAMES))
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    init = partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), image)
    rng = np.random.default_rng(4)  # with which several classes win

    def draw(path, leaf):
        if len(leaf.shape) > 1:
            fan_in = np.prod(leaf.shape[:-1])
            return rng.normal(0, np.sqrt(2 / fan_in), leaf.shape).astype(np.float32)
        module, name = path[-2].key, path[-1].key
        value = {"bias": 0, "mean": 0, "scale": 1, "var": 1}[name]
        if module.startswith("layer_scale"):
            value = 0.1  # else blocks overflow
        return np.full(leaf.shape, value, np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)
