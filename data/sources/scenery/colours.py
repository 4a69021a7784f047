"""Colours of the street scenes: [3] float arrays, RGB 0..255."""

import colorsys

import numpy as np
from numpy.random import Generator

Colour = np.ndarray

BLACK = np.array([22.0, 22.0, 24.0])
GLASS = np.array([45.0, 54.0, 64.0])
WHITE = np.array([232.0, 232.0, 228.0])
STEEL = np.array([128.0, 130.0, 132.0])
RED = np.array([196.0, 30.0, 32.0])
AMBER = np.array([240.0, 176.0, 40.0])
BLUE = np.array([28.0, 78.0, 168.0])
GREEN = np.array([40.0, 200.0, 110.0])


def hsv(
    rng: Generator, hue=(0.0, 1.0), saturation=(0.0, 1.0), value=(0.2, 0.95)
) -> Colour:
    """A random colour, 0..255, with components in the given ranges of 0..1."""
    h, s, v = (rng.uniform(*limits) for limits in (hue, saturation, value))
    return 255.0 * np.array(colorsys.hsv_to_rgb(h % 1.0, s, v))


def coat(rng: Generator) -> Colour:
    """Paint of a vehicle: grey or any colour."""
    return hsv(rng, saturation=(0.0, 0.12) if rng.random() < 0.5 else (0.4, 0.9))
