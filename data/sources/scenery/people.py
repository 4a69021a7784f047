"""People on foot, riders and their two-wheelers: flat figures, seen from the side."""

import numpy as np
from numpy.random import Generator

from data.sources.scenery.canvas import Canvas, Pose, RawId
from data.sources.scenery.colours import (
    AMBER,
    BLACK,
    STEEL,
    Colour,
    coat,
    hsv,
)
from data.sources.scenery.shapes import Part, disc, limb, rect, ring


def pedestrian(canvas: Canvas, rng: Generator, pose: Pose) -> None:
    """A person on foot, standing or walking; sometimes with a bag or a skirt."""
    jacket, trousers, skin = _clothes(rng)
    stride, scale = rng.uniform(0.0, 0.32), rng.choice([0.75, 0.95, 1.0, 1.05])
    canvas.shadow(Pose(pose.x, pose.z), 0.9, 0.5)
    parts: list[Part] = [
        (0.85 * trousers, limb((-0.1, 0.95), (-0.12 - stride, 0.06), 0.22)),
        (trousers, limb((0.1, 0.95), (0.12 + stride, 0.06), 0.22)),
        (BLACK, rect(-0.26 - stride, 0.0, 0.0 - stride, 0.1)),
        (BLACK, rect(0.0 + stride, 0.0, 0.26 + stride, 0.1)),
        (0.8 * jacket, limb((-0.26, 1.42), (-0.36 - stride / 2, 0.9), 0.16)),
        (jacket, np.array([[-0.3, 1.5], [0.3, 1.5], [0.26, 0.85], [-0.26, 0.85]])),
        (0.8 * jacket, limb((0.27, 1.42), (0.36 + stride / 2, 0.9), 0.16)),
        (skin, rect(-0.07, 1.48, 0.07, 1.6)),
        (skin, disc(0.0, 1.67, 0.15, 0.17)),
        (rng.uniform(0.2, 0.9) * 0.5 * skin, disc(0.0, 1.75, 0.16, 0.1)),
    ]
    if rng.random() < 0.3:  # skirt or coat
        outline = np.array([[-0.26, 1.0], [0.26, 1.0], [0.36, 0.5], [-0.36, 0.5]])
        parts.insert(4, (jacket * 0.9, outline))
    if rng.random() < 0.3:
        parts.append((hsv(rng), rect(0.3, 0.55, 0.62, 0.9)))
    scaled = [(colour, outline * scale) for colour, outline in parts]
    canvas.flat(pose, scaled, RawId.PERSON)


def bicycle(canvas: Canvas, rng: Generator, pose: Pose) -> None:
    """Seen from the side: thin wheels and a frame of tubes."""
    colour = hsv(rng, saturation=(0.0, 0.9), value=(0.1, 0.9))
    saddle, bar, crank = (-0.22, 0.92), (0.38, 0.98), (-0.05, 0.32)
    canvas.shadow(Pose(pose.x, pose.z), 1.8, 0.6)
    parts: list[Part] = []
    for x in (-0.55, 0.55):
        parts += [(None, disc(x, 0.36, 0.36)), (BLACK, ring(x, 0.36, 0.36, 0.075))]
        parts += [(STEEL, limb((x - 0.3, 0.36), (x + 0.3, 0.36), 0.02))]
    for start, end in (
        ((-0.55, 0.36), crank),
        ((-0.55, 0.36), saddle),
        (crank, saddle),
        (crank, bar),
        (saddle, (0.36, 0.85)),
        ((0.55, 0.36), bar),
    ):
        parts.append((colour, limb(start, end, 0.085)))
    parts.append((BLACK, rect(-0.38, 0.92, -0.08, 1.0)))
    parts.append((BLACK, limb((0.28, 1.04), (0.5, 1.0), 0.07)))
    canvas.flat(pose, parts, RawId.BICYCLE)


def motorcycle(canvas: Canvas, rng: Generator, pose: Pose) -> None:
    """Seen from the side: fat wheels, tank, engine, exhaust, fork and lamp."""
    colour = coat(rng)
    canvas.shadow(Pose(pose.x, pose.z), 2.2, 0.8)
    parts: list[Part] = []
    for x in (-0.68, 0.72):
        parts += [(BLACK, disc(x, 0.34, 0.35)), (STEEL, disc(x, 0.34, 0.15))]
    body = np.array(
        [[-0.9, 0.85], [-0.5, 0.6], [0.35, 0.5], [0.5, 0.95], [0.1, 1.02], [-0.3, 0.82]]
    )
    parts += [
        (BLACK * 2, rect(-0.4, 0.24, 0.35, 0.62)),  # engine
        (STEEL, limb((0.0, 0.3), (-0.95, 0.4), 0.13)),  # exhaust
        (BLACK, limb((0.72, 0.34), (0.42, 1.05), 0.12)),  # fork
        (colour, body),
        (BLACK, limb((-0.85, 0.88), (-0.1, 0.88), 0.14)),  # seat
        (colour, limb((0.48, 0.72), (0.98, 0.66), 0.1)),  # mudguard
        (AMBER, disc(0.58, 0.9, 0.1)),
        (BLACK, limb((0.3, 1.12), (0.52, 1.02), 0.08)),
    ]
    canvas.flat(pose, parts, RawId.MOTORCYCLE)


def rider(canvas: Canvas, rng: Generator, pose: Pose, *, helmet: bool) -> None:
    """The person on a bicycle or motorcycle of the same pose."""
    jacket, trousers, skin = _clothes(rng)
    hip, shoulder, foot = (-0.22, 1.0), (0.1, 1.52), (0.05, 0.34)
    knee = (0.2, 0.78)
    hat = hsv(rng) if helmet or rng.random() < 0.5 else 0.3 * skin
    parts: list[Part] = [
        (trousers, limb(hip, knee, 0.24)),
        (trousers, limb(knee, foot, 0.18)),
        (BLACK, limb(foot, (0.22, 0.34), 0.12)),
        (jacket, limb((-0.24, 0.92), shoulder, 0.42)),
        (jacket, disc(0.08, 1.45, 0.2)),
        (0.8 * jacket, limb((0.08, 1.45), (0.42, 1.06), 0.15)),
        (skin, disc(0.2, 1.76, 0.15, 0.18)),
        (hat, disc(0.18, 1.82, 0.2, 0.17)),
    ]
    if helmet:
        parts += [
            (hat, disc(0.19, 1.76, 0.21, 0.22)),
            (BLACK, rect(0.2, 1.72, 0.4, 1.82)),
        ]
    canvas.flat(pose, parts, RawId.RIDER)


def _clothes(rng: Generator) -> tuple[Colour, Colour, Colour]:
    """Colours of jacket, trousers and skin."""
    skin = hsv(rng, hue=(0.04, 0.09), saturation=(0.3, 0.6), value=(0.4, 0.92))
    trousers = hsv(rng, saturation=(0.0, 0.5), value=(0.1, 0.6))
    return hsv(rng, saturation=(0.0, 0.85)), trousers, skin
