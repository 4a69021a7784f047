"""Vehicles on four or more wheels, and trams.

Their colours are random, so that it is the shape that tells the classes apart.
"""

import itertools

import numpy as np
from numpy.random import Generator

from data.sources.scenery.canvas import Canvas, Pose, RawId
from data.sources.scenery.colours import (
    AMBER,
    BLACK,
    GLASS,
    RED,
    STEEL,
    WHITE,
    coat,
)
from data.sources.scenery.shapes import Part, disc, limb, rect


def car(canvas: Canvas, rng: Generator, pose: Pose) -> None:
    """A hatchback, saloon or estate: low body, glass cabin, lamps, four wheels."""
    colour = coat(rng)
    length, half, waist = rng.uniform(3.9, 4.6), 0.92, rng.uniform(0.82, 0.95)
    rear = rng.choice([0.15, 0.45, 0.9])
    canvas.shadow(pose, 2.3, length + 0.5)
    lamp = [rect(0.03, 0.5, 0.2, 0.75), rect(0.8, 0.5, 0.97, 0.75)]
    plate = (WHITE, rect(0.36, 0.32, 0.64, 0.46))
    bumper = (0.6 * colour, rect(0, 0.0, 1, 0.2))
    tyres: list[Part] = [(BLACK, rect(0.04, -0.3, 0.18, 0.06))]
    tyres.append((BLACK, rect(0.82, -0.3, 0.96, 0.06)))
    grille = (BLACK, rect(0.26, 0.5, 0.74, 0.72))
    line = (0.7 * colour, rect(0.44, 0.1, 0.45, 1.0))
    decals = {
        "rear": [*tyres, bumper, plate, *((RED, each) for each in lamp)],
        "front": [*tyres, bumper, grille, plate, *((WHITE, each) for each in lamp)],
        "side": [line, *_wheels(0.35, length, waist - 0.25, 0.25, (0.18, 0.8))],
    }
    across, along = (-half, half), (-length / 2, length / 2)
    canvas.box(pose, across, (0.25, waist), along, colour, RawId.CAR, decals=decals)
    window = (GLASS, rect(0.08, 0.08, 0.92, 0.8))
    sides = [(GLASS, np.array([[0.04, 0.08], [0.48, 0.08], [0.48, 0.8], [0.1, 0.8]]))]
    sides.append(
        (GLASS, np.array([[0.53, 0.08], [0.95, 0.08], [0.88, 0.8], [0.53, 0.8]]))
    )
    canvas.box(
        pose,
        (-half + 0.04, half - 0.04),
        (waist, waist + rng.uniform(0.5, 0.62)),
        (-length / 2 + 0.08, length / 2 - 1.1),
        colour,
        RawId.CAR,
        inset=(0.16, rear, 0.75),
        decals={"rear": [window], "front": [window], "side": sides},
    )


def truck(canvas: Canvas, rng: Generator, pose: Pose) -> None:
    """A lorry: tall windowless box behind, or an open bed; a cab of other colour."""
    cab, cargo = coat(rng), coat(rng)
    length, half, height = rng.uniform(7.0, 9.0), 1.25, rng.uniform(3.2, 3.8)
    back, bed = -length / 2, length / 2 - 2.3
    canvas.shadow(pose, 3.0, length + 0.6)

    def paint_cargo() -> None:
        under = _wheels(0.5, bed - back, height - 0.9, 0.9, (0.12, 0.3, 0.82))
        ribs: list[Part] = [
            (0.82 * cargo, rect(u, 0.0, u + 0.012, 1)) for u in np.linspace(0.1, 0.9, 8)
        ]
        doors = [
            (0.6 * cargo, rect(0.49, 0, 0.51, 1)),
            (STEEL, rect(0.3, 0.05, 0.33, 0.95)),
        ]
        doors += [(STEEL, rect(0.67, 0.05, 0.7, 0.95))]
        bar: list[Part] = [(BLACK, rect(0.02, -0.3, 0.22, -0.02))]
        bar += [(BLACK, rect(0.78, -0.3, 0.98, -0.02))]
        for start in (0.0, 0.75):  # red and white warning stripes
            bar += [(RED, rect(start, -0.13, start + 0.25, -0.03))]
        canvas.box(
            pose, (-1.0, 1.0), (0.35, 0.9), (back, bed + 1.5), BLACK, RawId.TRUCK
        )
        canvas.box(
            pose,
            (-half, half),
            (0.9, height),
            (back, bed),
            cargo,
            RawId.TRUCK,
            decals={"rear": [*doors, *bar], "side": [*ribs, *under]},
        )

    def paint_cab() -> None:
        glass = (GLASS, rect(0.08, 0.5, 0.92, 0.88))
        lamps = [
            (WHITE, rect(0.05, 0.06, 0.2, 0.16)),
            (WHITE, rect(0.8, 0.06, 0.95, 0.16)),
        ]
        grille: list[Part] = [
            (BLACK, rect(0.25, y, 0.75, y + 0.05)) for y in (0.2, 0.28, 0.36)
        ]
        door = [
            (GLASS, rect(0.35, 0.5, 0.85, 0.85)),
            (0.7 * cab, rect(0.3, 0.0, 0.32, 0.9)),
        ]
        canvas.box(
            pose,
            (-half + 0.03, half - 0.03),
            (0.45, height * 0.86),
            (bed + 0.25, length / 2),
            cab,
            RawId.TRUCK,
            inset=(0.05, 0.0, 0.12),
            decals={
                "front": [glass, *grille, *lamps],
                "side": [
                    *door,
                    *_wheels(0.5, 2.05, height * 0.86 - 0.45, 0.45, (0.55,)),
                ],
            },
        )

    parts = [paint_cab, paint_cargo]
    toward = np.cos(pose.yaw) * pose.z + np.sin(pose.yaw) * pose.x
    for paint in parts if toward > 0 else reversed(parts):
        paint()


def bus(canvas: Canvas, rng: Generator, pose: Pose) -> None:
    """A city bus: one body, a band of windows, glass doors, a lit destination."""
    colour, belt = coat(rng), coat(rng)
    length, half, height = rng.uniform(10.0, 12.0), 1.28, rng.uniform(2.9, 3.2)
    canvas.shadow(pose, 3.0, length + 0.6)
    edges = np.linspace(0.03, 0.97, 8)
    side: list[Part] = [(belt, rect(0, 0.12, 1, 0.28))]
    side += [
        (GLASS, rect(a + 0.006, 0.46, b - 0.006, 0.86))
        for a, b in itertools.pairwise(edges)
    ]
    for u in (0.14, 0.52, 0.86):
        side += [(BLACK, rect(u, 0.02, u + 0.1, 0.86))]
        side += [(GLASS * 1.5, rect(u + 0.01, 0.06, u + 0.045, 0.82))]
        side += [(GLASS * 1.5, rect(u + 0.055, 0.06, u + 0.09, 0.82))]
    side += _wheels(0.48, length, height - 0.35, 0.35, (0.28, 0.76))
    sign = (BLACK, rect(0.12, 0.85, 0.88, 0.97))
    text = (AMBER, rect(0.25, 0.88, 0.75, 0.94))
    tyres: list[Part] = [(BLACK, rect(0.03, -0.12, 0.16, 0.04))]
    tyres += [(BLACK, rect(0.84, -0.12, 0.97, 0.04))]
    lamps = [rect(0.04, 0.1, 0.16, 0.2), rect(0.84, 0.1, 0.96, 0.2)]
    front = [*tyres, (GLASS, rect(0.05, 0.34, 0.95, 0.83)), sign, text]
    front += [(belt, rect(0, 0.22, 1, 0.3)), *((WHITE, each) for each in lamps)]
    rear = [
        *tyres,
        (GLASS, rect(0.1, 0.58, 0.9, 0.86)),
        (AMBER, rect(0.42, 0.9, 0.58, 0.96)),
    ]
    rear += [(BLACK, rect(0.2, y, 0.8, y + 0.04)) for y in (0.2, 0.27, 0.34)]
    rear += [(belt, rect(0, 0.42, 1, 0.5)), *((RED, each) for each in lamps)]
    canvas.box(
        pose,
        (-half, half),
        (0.35, height),
        (-length / 2, length / 2),
        colour,
        RawId.BUS,
        decals={"side": side, "front": front, "rear": rear},
    )
    canvas.box(
        pose, (-0.7, 0.7), (height, height + 0.25), (-2.0, 1.0), WHITE, RawId.BUS
    )


def train(canvas: Canvas, rng: Generator, pose: Pose) -> None:
    """A tram on rails: coaches with bellows, a sloped nose, skirts, a pantograph."""
    colour, belt = coat(rng), coat(rng)
    coach, half, height = rng.uniform(7.5, 9.0), 1.3, rng.uniform(3.4, 3.7)
    canvas.shadow(pose, 3.0, 2 * coach + 1.0)
    edges = np.linspace(0.05, 0.95, 5)
    side: list[Part] = [
        (BLACK, rect(0, 0.5, 1, 0.84)),
        (belt, rect(0, 0.2, 1, 0.34)),
        (BLACK, rect(0, 0.0, 1, 0.06)),
    ]
    side += [
        (GLASS * 1.35, rect(a + 0.015, 0.53, b - 0.015, 0.81))
        for a, b in itertools.pairwise(edges)
    ]
    wind = (GLASS, np.array([[0.16, 0.42], [0.84, 0.42], [0.78, 0.84], [0.22, 0.84]]))
    nose: list[Part] = [(BLACK, rect(0.1, 0.36, 0.9, 0.92)), wind]
    nose += [(AMBER, rect(0.3, 0.86, 0.7, 0.91)), (belt, rect(0, 0.16, 1, 0.3))]
    nose += [(BLACK, rect(0.4, -0.02, 0.6, 0.1))]
    nose += [(WHITE, disc(u, 0.2, 0.06, 0.03)) for u in (0.16, 0.84)]
    coaches = [(-coach - 0.3, -0.3), (0.3, coach + 0.3)]
    toward = np.cos(pose.yaw) * pose.z + np.sin(pose.yaw) * pose.x
    if toward > 0:
        coaches.reverse()
    for number, along in enumerate(coaches):
        first = along[0] < 0
        if number == 1:
            canvas.box(
                pose,
                (-1.0, 1.0),
                (0.5, height - 0.3),
                (-0.35, 0.35),
                BLACK,
                RawId.TRAIN,
            )
        canvas.box(
            pose,
            (-half, half),
            (0.15, height),
            along,
            colour,
            RawId.TRAIN,
            inset=(0.12, 0.7 * first, 0.7 * (not first)),
            decals={"side": side, "rear": nose, "front": nose},
        )
    arm = [(BLACK, limb((-0.8, height), (0.5, height + 0.8), 0.1))]
    arm += [(BLACK, limb((0.5, height + 0.8), (-0.8, height + 1.5), 0.1))]
    arm += [(BLACK, limb((-1.3, height + 1.5), (0.2, height + 1.5), 0.12))]
    canvas.flat(pose, arm, RawId.TRAIN)


def _wheels(radius, length, height, above, places) -> list[Part]:
    """Wheel discs on the side of a box `height` high, `above` metres off the ground."""
    parts: list[Part] = []
    for u in places:
        v = (radius - above) / height
        parts.append((BLACK, disc(u, v, radius / length, radius / height)))
        parts.append((STEEL, disc(u, v, 0.5 * radius / length, 0.5 * radius / height)))
    return parts
