"""Weights, images and labels by rule, for whole-model goldens without stored weights.

`tools/golden` (in the peers) and the parity tests (here) both call these; the values
follow from the name and shape alone. Only `RandomState.random_sample` is used: NumPy
guarantees its stream never changes (NEP 19), and uniform draws need no libm.
"""

import zlib

import numpy as np

NUM_CLASSES = 19
IGNORE_LABEL = 255
BASES = "decode_head.hamburger.ham.bases"


def uniform(name: str, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
    """Uniform draws seeded by `name`, float32 of `shape` in row-major order."""
    draws = np.random.RandomState(zlib.crc32(name.encode())).random_sample(shape)
    return (low + (high - low) * draws).astype(np.float32)


def fill(name: str, shape: tuple[int, ...], layer_scale: float = 0.5) -> np.ndarray:
    """Value of one variable, float32, by the peer's name in its layout ([o i h w]).

    Scaled so that activations stay near 1. Layer scales are 0.1-0.5, not the initial
    0.01, so that an error inside a block shows in the output; dozens of blocks would
    overflow and need a smaller `layer_scale`, the upper end. `BASES` [d r] is in
    [0, 1) and not normalised, as `torch.rand` gives it; mmseg then divides by the L2
    norm over d. Every example of a batch uses the same bases.
    """
    if name == BASES:
        return uniform(name, shape, 0.0, 1.0)
    if name.endswith(("running_var", "._variance")):
        return uniform(name, shape, 0.5, 1.5)
    if name.endswith(("running_mean", "._mean")):
        return uniform(name, shape, -0.2, 0.2)
    if "layer_scale" in name:
        return uniform(name, shape, layer_scale / 5, layer_scale)
    if name.endswith("bias"):
        return uniform(name, shape, -0.1, 0.1)
    if len(shape) == 1:  # gain of a norm
        return uniform(name, shape, 0.8, 1.2)
    limit = np.sqrt(3.0 / np.prod(shape[1:]))
    return uniform(name, shape, -limit, limit)


def probe(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Direction in [-1, 1) that a gradient is projected on, laid out as in `fill`."""
    return uniform(f"probe:{name}", shape, -1.0, 1.0)


def image(batch: int, height: int, width: int) -> np.ndarray:
    """Normalised image [b h w 3], float32 in [-2, 2): 8x8 blocks plus pixel noise."""
    size = (height, width)
    blocks = _blocks(f"image:{batch}x{height}x{width}", batch, size, 3)
    noise = uniform(f"noise:{batch}x{height}x{width}", (batch, *size, 3), -0.5, 0.5)
    return 3.0 * blocks - 1.5 + noise


def label(batch: int, height: int, width: int) -> np.ndarray:
    """Train ids [b h w] uint8 in 8x8 blocks; about one block in twenty is ignored."""
    name = f"label:{batch}x{height}x{width}"
    blocks = _blocks(name, batch, (height, width), 1)[..., 0]
    train_id = np.floor(blocks * (NUM_CLASSES + 1))
    return np.where(train_id >= NUM_CLASSES, IGNORE_LABEL, train_id).astype(np.uint8)


def _blocks(name: str, batch: int, size: tuple[int, int], channels: int) -> np.ndarray:
    rows, columns = (-(-side // 8) for side in size)
    coarse = uniform(name, (batch, rows, columns, channels), 0.0, 1.0)
    fine = coarse.repeat(8, axis=1).repeat(8, axis=2)
    return fine[:, : size[0], : size[1]]
