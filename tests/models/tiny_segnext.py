"""A network of a few thousand weights, with weights as training might leave them."""

import jax.numpy as jnp
import numpy as np

from segnext_jax.models.hamburger import LightHam
from segnext_jax.models.layers import fan_in_normal
from segnext_jax.models.mscan import MSCAN
from segnext_jax.models.segnext import SegNeXt, Variables
from segnext_jax.weights import convert

NUM_CLASSES = 5


def make_tiny(dtype=jnp.float32) -> SegNeXt:
    # "xla" compiles several times faster.
    backbone = MSCAN((8, 16, 24, 32), (1, 2, 1, 1), dtype=dtype, depthwise="xla")
    decoder = LightHam(NUM_CLASSES, 32, 4, fan_in_normal, fan_in_normal, dtype=dtype)
    return SegNeXt(backbone, decoder)


def draw_variables(model: SegNeXt, dtype=np.float32, seed: int = 0) -> Variables:
    """Kernels that keep the scale of what they map; norms that are far from none."""
    shapes = convert.shapes(model)
    rng = np.random.default_rng(seed)

    def draw(path, shape):
        name = path[-1]
        if name in ("scale", "var"):
            x = rng.uniform(0.5, 1.5, shape)
        elif name in ("bias", "mean"):
            x = rng.normal(0, 0.5, shape)
        else:
            fan_in = np.prod(shape[:-1])  # of depthwise kernels, too
            x = rng.normal(0, 1 / np.sqrt(fan_in), shape)
        return x.astype(dtype)

    def order(path):  # statistics first
        return path[-1] not in ("mean", "var"), path

    paths = sorted((tuple(path.split("/")) for path in shapes), key=order)
    flat = {"/".join(path): draw(path, shapes["/".join(path)]) for path in paths}
    return convert.unflatten(flat)
