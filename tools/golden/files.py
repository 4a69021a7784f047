"""What both peers' goldens share: a small model, sizes, and how they are saved."""

from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]

# A SegNeXt that is large enough to have two blocks in one stage.
TINY_DIMS = (8, 8, 16, 16)
TINY_DEPTHS = (1, 2, 1, 1)
TINY_CHANNELS = 64
TINY_RANK = 8
TINY_SIZES = ((64, 96), (50, 67))


def save(path: str, golden: dict[str, np.ndarray]) -> None:
    """Writes a compressed .npz; a relative path is below the root of the project."""
    target = ROOT / path
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target, allow_pickle=False, **golden)
    print(f"{path}: {len(golden)} arrays, {target.stat().st_size / 1000:.0f} kB")


def table(shapes: dict[str, tuple[int, ...]]) -> np.ndarray:
    """Names and shapes as lines, e.g. "backbone.norm1.weight 32"."""
    return np.array([f"{n} {'x'.join(map(str, s))}" for n, s in shapes.items()])
