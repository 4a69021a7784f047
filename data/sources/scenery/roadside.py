"""What stands along the street: houses, walls, fences, trees, poles, signs, lights."""

import numpy as np
from numpy.random import Generator

from data.sources.scenery.canvas import Canvas, Pose, RawId
from data.sources.scenery.colours import (
    AMBER,
    BLACK,
    BLUE,
    GREEN,
    RED,
    WHITE,
    hsv,
)
from data.sources.scenery.shapes import Part, disc, limb, rect


def building(
    canvas: Canvas, rng: Generator, x: float, sign: int, z0: float, z1: float
) -> None:
    """Storeys of windows above doors and shop fronts."""
    colour = hsv(rng, (0.0, 0.17), (0.0, 0.45), (0.3, 0.85))
    if rng.random() < 0.35:
        colour = hsv(rng, saturation=(0.0, 0.3))
    storeys, storey = rng.integers(2, 6), rng.uniform(2.9, 3.5)
    pane = hsv(rng, (0.5, 0.65), (0.0, 0.4), (0.12, 0.4))
    frame = np.minimum(colour * rng.choice([0.7, 1.35]), 245)
    lit = hsv(rng, (0.08, 0.16), (0.0, 0.5), (0.6, 0.95))

    def facade(length: float) -> list[Part]:
        columns = max(2, round(length / rng.uniform(2.2, 3.2)))
        parts: list[Part] = [(0.75 * colour, rect(0, 0, 1, 0.06))]
        for row in range(storeys):
            shop = row == 0 and columns > 2
            v0 = (row + (0.1 if shop else 0.28)) / storeys
            v1 = (row + (0.72 if shop else 0.82)) / storeys
            for column in range(columns):
                margin = 0.12 if shop else 0.27
                u0, u1 = (column + margin) / columns, (column + 1 - margin) / columns
                glass = lit if rng.random() < 0.12 else pane * rng.uniform(0.8, 1.3)
                edge = 0.05 / columns
                parts.append(
                    (frame, rect(u0 - edge, v0 - 0.012, u1 + edge, v1 + 0.012))
                )
                parts.append((glass, rect(u0, v0, u1, v1)))
            ledge = (row + 0.97) / storeys
            parts.append((0.82 * colour, rect(0, ledge, 1, ledge + 0.015)))
        return parts

    depth, height = 9.0, storeys * storey
    across = (x, x + depth) if sign > 0 else (x - depth, x)
    decals = {"side": facade(z1 - z0), "rear": facade(depth)}
    street = Pose(0.0, 0.0)
    canvas.box(
        street, across, (0.0, height), (z0, z1), colour, RawId.BUILDING, decals=decals
    )
    if rng.random() < 0.6:  # pitched roof
        roof = hsv(rng, (0.0, 0.1), (0.0, 0.6), (0.25, 0.5))
        slope = (2.0, 0.0, 0.0)
        top = (height, height + 1.8)
        canvas.box(street, across, top, (z0, z1), roof, RawId.BUILDING, inset=slope)


def wall(
    canvas: Canvas, rng: Generator, x: float, sign: int, near: float, far: float
) -> None:
    """Courses of blocks below a coping, without an opening."""
    colour = hsv(rng, (0.0, 0.17), (0.0, 0.45), (0.3, 0.8))
    height = rng.uniform(2.1, 3.2)
    courses, blocks = 6, int((far - near) / 0.9)
    side: list[Part] = []
    for row in range(courses):
        v = row / courses
        side.append((0.68 * colour, rect(0, v, 1, v + 0.025)))
        for block in range(blocks):
            u = (block + 0.5 * (row % 2)) / blocks
            side.append((0.68 * colour, rect(u, v, u + 0.06 / (far - near), v + 0.16)))
    side.append((np.minimum(1.3 * colour, 240), rect(0, 0.93, 1, 1)))
    across = (x, x + 0.4) if sign > 0 else (x - 0.4, x)
    decals = {"side": side}
    pose, up, along = Pose(0.0, 0.0), (0.0, height), (near, far)
    canvas.box(pose, across, up, along, colour, RawId.WALL, decals=decals)


def fence(
    canvas: Canvas, rng: Generator, x: float, sign: int, near: float, far: float
) -> None:
    """Pickets or a lattice between rails; what is behind shows through."""
    colour = hsv(rng, saturation=(0.0, 0.4), value=(0.1, 0.9))
    height = rng.uniform(1.8, 2.6)
    lattice = rng.random() < 0.4
    parts: list[Part] = [(None, rect(near, 0, far, height))]
    pitch, bar = (0.55, 0.09) if lattice else (0.42, 0.16)
    for z in np.arange(near, far, pitch):
        if lattice:
            end = min(z + height, far)
            low, top = 0.1, end - z
            parts.append((colour, limb((z, low), (end, top), bar)))
            parts.append((colour, limb((end, low), (z, top), bar)))
        else:
            parts.append((colour, rect(z, 0, z + bar, height)))
    for y in (0.15, height - 0.25):
        parts.append((0.85 * colour, rect(near, y, far, y + 0.14)))
    pose = Pose(x + sign * 0.1, 0.0, -np.pi / 2)  # its "across" runs along z
    canvas.flat(pose, parts, RawId.FENCE)


def tree(
    canvas: Canvas, rng: Generator, x: float, z: float, *, bush: bool = False
) -> None:
    """A trunk below a crown of overlapping leaf clusters, or the crown alone."""
    crown = hsv(rng, hue=(0.12, 0.36), saturation=(0.3, 0.65), value=(0.2, 0.5))
    size = rng.uniform(0.6, 1.1) if bush else rng.uniform(1.3, 2.2)
    height = 0.6 * size if bush else rng.uniform(2.8, 4.5)
    parts: list[Part] = []
    if not bush:
        parts.append((np.array([72.0, 58.0, 46.0]), rect(-0.2, 0, 0.2, height)))
    for turn in range(16):
        dx, dy = rng.uniform(-1, 1, 2) * size * (1.0, 0.75)
        tint = crown * rng.uniform(0.65, 1.25) * (1.0 + 0.25 * dy / size)
        radius = size * rng.uniform(0.35, 0.6)
        parts.append((tint, disc(dx, height + dy, radius, n=9 + turn % 3)))
    canvas.flat(Pose(x, z), parts, RawId.VEGETATION)


def pole(canvas: Canvas, rng: Generator, x: float, z: float, height: float) -> None:
    """A post, at least 5 of 128 pixels wide, to be learnable at stride 8."""
    width = max(rng.uniform(0.2, 0.3), canvas.metres(rng.uniform(5.5, 7.5) / 128, z))
    colour = hsv(rng, saturation=(0.0, 0.25), value=(0.25, 0.75))
    parts = [(colour, rect(-width / 2, 0, width / 2, height))]
    parts.append((0.7 * colour, rect(width * 0.15, 0, width / 2, height)))
    canvas.flat(Pose(x, z), parts, RawId.POLE)


def lamp_post(canvas: Canvas, rng: Generator, x: float, z: float) -> None:
    """A pole that ends above the picture, or nearly."""
    pole(canvas, rng, x, z, rng.uniform(6.0, 8.0))


def traffic_light(canvas: Canvas, rng: Generator, x: float, z: float) -> None:
    """Three lamps, one lit, in a dark or coloured box on a pole."""
    y = rng.uniform(2.3, 2.9)
    pole(canvas, rng, x, z, y + 0.3)
    half = max(0.32, canvas.metres(12.0 / 128, z) / 2)
    case = hsv(rng, saturation=(0.0, 0.5), value=(0.08, 0.3))
    parts: list[Part] = []
    if rng.random() < 0.5:
        parts.append((WHITE, rect(-1.25 * half, y - 0.1, 1.25 * half, y + 5.3 * half)))
    parts.append((case, rect(-half, y, half, y + 5.1 * half)))
    lit = rng.integers(3)
    for number, colour in enumerate((GREEN, AMBER, RED)):
        glow = 1.15 if number == lit else 0.28
        parts.append(
            (glow * colour, disc(0, y + (0.95 + 1.6 * number) * half, 0.66 * half))
        )
    canvas.flat(Pose(x, z), parts, RawId.TRAFFIC_LIGHT)


def traffic_sign(canvas: Canvas, rng: Generator, x: float, z: float) -> None:
    """A disc, triangle, diamond, octagon or direction board on a pole."""
    r = max(rng.uniform(0.4, 0.5), canvas.metres(15 / 128, z) / 2)
    y = rng.uniform(2.3, 2.8) + r
    pole(canvas, rng, x, z, y)
    kind = rng.integers(6)
    triangle = np.array([[-1.15, -0.8], [1.15, -0.8], [0.0, 1.15]])
    if kind == 0:  # speed limit
        parts = [(RED, disc(0, 0, 1)), (WHITE, disc(0, 0, 0.72))]
        parts += [
            (BLACK, rect(-0.4, -0.35, -0.08, 0.35)),
            (BLACK, rect(0.1, -0.35, 0.42, 0.35)),
        ]
    elif kind == 1:  # warning
        parts = [
            (RED, triangle),
            (WHITE, 0.62 * triangle),
            (BLACK, rect(-0.1, -0.4, 0.1, 0.35)),
        ]
    elif kind == 2:  # priority
        diamond = np.array([[0, -1.15], [1.15, 0], [0, 1.15], [-1.15, 0.0]])
        parts = [(WHITE, diamond), (AMBER, 0.7 * diamond)]
    elif kind == 3:  # stop or no entry
        parts = [(RED, disc(0, 0, 1.05, n=8)), (WHITE, rect(-0.72, -0.2, 0.72, 0.2))]
    elif kind == 4:  # mandatory
        parts = [(BLUE, disc(0, 0, 1)), (WHITE, limb((-0.5, -0.5), (0.45, 0.45), 0.3))]
        parts += [(WHITE, np.array([[0.65, 0.65], [0.0, 0.55], [0.55, 0.0]]))]
    else:  # direction board
        colour = (BLUE, WHITE, AMBER, 0.5 * GREEN)[rng.integers(4)]
        ink = BLACK if colour.sum() > 420 else WHITE
        parts = [
            (ink, rect(-2.0, -0.9, 2.0, 0.9)),
            (colour, rect(-1.9, -0.8, 1.9, 0.8)),
        ]
        parts += [(ink, rect(-1.5, v, 0.9, v + 0.25)) for v in (-0.5, 0.0, 0.45)]
        parts += [(ink, np.array([[1.2, -0.4], [1.7, 0.1], [1.2, 0.6]]))]
    placed = [(c, outline * r + (0, y)) for c, outline in parts]
    canvas.flat(Pose(x, z), placed, RawId.TRAFFIC_SIGN)


def litter_bin(canvas: Canvas, rng: Generator, x: float, z: float) -> None:
    colour = hsv(rng, value=(0.2, 0.6))
    size = (-0.35, 0.35)
    canvas.box(Pose(x, z), size, (0.0, 1.0), size, colour, RawId.STATIC)
