"""Outlines [n 2] of the parts that things in the street scenes are made of."""

import numpy as np

from data.sources.scenery.colours import Colour

Part = tuple[Colour | None, np.ndarray]  # colour (None: label only), outline [n 2]


def disc(x: float, y: float, rx: float, ry: float | None = None, n=14) -> np.ndarray:
    """Outline [n 2] of an ellipse."""
    angle = np.arange(n) * (2 * np.pi / n)
    ry = rx if ry is None else ry
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=-1)


def ring(x: float, y: float, radius: float, thickness: float) -> np.ndarray:
    """Outline of a wheel without its inside, as one polygon."""
    outer, inner = disc(x, y, radius), disc(x, y, radius - thickness)[::-1]
    closed = [outer, outer[:1], inner[-1:], inner, outer[:1]]
    return np.concatenate(closed)


def rect(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    """Outline [4 2] of a rectangle."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def limb(start, end, thickness: float) -> np.ndarray:
    """Outline [4 2] of a thick line."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    along = end - start
    normal = np.array([-along[1], along[0]]) / max(np.hypot(*along), 1e-6)
    half = normal * thickness / 2
    return np.stack([start + half, end + half, end - half, start - half])
