"""Street scenes with exact labels, painted from a seed and an index.

A perspective street in the manner of Cityscapes: every train class occurs, near and
large enough to be learned at output stride 8, and colour alone does not tell the
classes apart. No photograph or other asset is used.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from data.sources.scenery import people, roadside, vehicles
from data.sources.scenery.canvas import Canvas, Pose, RawId
from data.sources.scenery.colours import hsv
from data.sources.scenery.shapes import disc, rect

_FAR = 130.0  # metres; the end of the street


@dataclass(frozen=True)
class Street:
    """Cross-section of the street: metres to the right of the camera."""

    road: tuple[float, float]  # left and right edge of the road
    verge: tuple[float, float]  # where grass ends and the sidewalks begin
    walk: tuple[float, float]  # outer edges of the sidewalks
    front: tuple[float, float]  # where the houses begin

    @property
    def middle(self) -> float:
        return self.road[0] * 0.5 + self.road[1] * 0.5


def render(
    seed: int, index: int, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Paints scene `index`, a pure function of its arguments.

    Args:
      seed, index: non-negative; every pair is another scene.
      size: (height, width) in pixels.

    Returns:
      Image uint8 [h w 3] RGB and label uint8 [h w] of raw Cityscapes ids.
    """
    key = np.array([seed, index], np.uint64)
    rng = Generator(np.random.Philox(key=key))
    canvas = Canvas(size, rng)
    left, right = -rng.uniform(4.4, 6.0), rng.uniform(3.2, 4.6)
    outward = np.array([-1.0, 1.0])
    road = np.array([left, right])
    verge = road + outward * rng.uniform(2.0, 3.2, 2) * (rng.random(2) < 0.3)
    walk = verge + outward * rng.uniform(3.0, 4.2, 2)
    front = walk + outward * rng.uniform(0.0, 4.0, 2) * (rng.random(2) < 0.8)
    street = Street(*((float(a), float(b)) for a, b in (road, verge, walk, front)))

    _paint_sky(canvas, rng)
    _paint_ground(canvas, rng, street)
    _paint_roadside(canvas, rng, street)
    things = [*_street_furniture(canvas, rng, street), *_traffic(canvas, rng, street)]
    for _, paint in sorted(things, key=lambda thing: -thing[0]):
        paint()
    _paint_ego_vehicle(canvas, rng)
    return canvas.finish(rng)


def _paint_sky(canvas: Canvas, rng: Generator) -> None:
    zenith = hsv(rng, (0.54, 0.62), (0.05, 0.6), (0.62, 0.98))
    low = hsv(rng, (0.05, 0.65), (0.0, 0.2), (0.82, 1.0))
    edges = np.linspace(0, canvas.horizon + 2, 33)
    for number, (y0, y1) in enumerate(itertools.pairwise(edges)):
        blend = number / 32
        colour = (1 - blend) * zenith + blend * low
        band = rect(0, y0, canvas.width, y1 + 1)
        canvas.fill(band, colour, RawId.SKY)
    for raw_id in (RawId.BUILDING, RawId.VEGETATION):  # the skyline
        hue = (0.2, 0.35) if raw_id == RawId.VEGETATION else (0.0, 1.0)
        for _ in range(rng.integers(3, 7)):
            x, width = rng.uniform(-40, 40), rng.uniform(5, 14)
            colour = hsv(rng, hue, (0.05, 0.3), (0.3, 0.6))
            outline = rect(-width / 2, 0, width / 2, rng.uniform(4, 13))
            if raw_id == RawId.VEGETATION:
                outline = disc(0, 2.0, width / 2, rng.uniform(3, 7))
            canvas.flat(Pose(x, _FAR), [(colour, outline)], raw_id)


def _paint_ground(canvas: Canvas, rng: Generator, street: Street) -> None:
    # Hazier towards the horizon: painted in slices of depth.
    depths = 1.5 * (_FAR / 1.5) ** np.linspace(0, 1, 13)
    grass = hsv(rng, (0.13, 0.33), (0.25, 0.55), (0.35, 0.65))
    asphalt = hsv(rng, saturation=(0.0, 0.1), value=(0.3, 0.58))
    paving = hsv(rng, (0.0, 0.15), (0.0, 0.2), (0.38, 0.72))
    kerb, joint = 1.2 * paving, 0.8 * paving
    (r0, r1), (g0, g1), (w0, w1) = street.road, street.verge, street.walk
    for z0, z1 in itertools.pairwise(depths):
        canvas.ground(-300, 300, z0, z1 + 0.1, grass, RawId.TERRAIN)
        canvas.ground(w0, w1, z0, z1 + 0.1, paving, RawId.SIDEWALK)
        canvas.ground(g0, g1, z0, z1 + 0.1, 1.1 * grass, RawId.TERRAIN)
        canvas.ground(r0, r1, z0, z1 + 0.1, asphalt, RawId.ROAD)
        for x in (r0 - 0.25, r1):
            canvas.ground(x, x + 0.25, z0, z1 + 0.1, kerb, RawId.SIDEWALK)
    tile = rng.uniform(0.8, 1.6)
    for z in np.arange(3.0, 24.0, tile):
        for x0, x1 in ((w0, min(g0, r0 - 0.25)), (max(g1, r1 + 0.25), w1)):
            canvas.ground(x0, x1, z, z + 0.05, joint)
    for x0, x1 in ((w0, g0), (g1, w1)):
        for x in np.arange(x0 + tile, x1 - 0.3, tile):
            canvas.ground(x, x + 0.04, 2.0, 40.0, joint)
    for _ in range(rng.integers(0, 4)):  # repaired asphalt
        x, z = rng.uniform(r0, r1 - 1.5), rng.uniform(4, 20)
        patch = asphalt * rng.uniform(0.82, 1.15)
        canvas.ground(x, x + 1.4, z, z + rng.uniform(1, 5), patch)
    paint = hsv(rng, (0.1, 0.16), (0.0, 0.25), (0.75, 0.95))
    dash, start = rng.uniform(2.0, 4.0), rng.uniform(0.0, 4.0)
    lanes = [street.middle] if r1 - r0 < 10 else np.linspace(r0, r1, 4)[1:-1]
    for x in lanes:
        for z in np.arange(2.0 + start, 80.0, 2 * dash):
            canvas.ground(x - 0.08, x + 0.08, z, z + dash, paint)
    for x in (r0 + 0.35, r1 - 0.45):
        canvas.ground(x, x + 0.12, 1.5, 80.0, paint)
    if rng.random() < 0.25:  # zebra crossing
        z = rng.uniform(7, 14)
        for x in np.arange(r0 + 0.4, r1 - 0.5, 1.1):
            canvas.ground(x, x + 0.55, z, z + 3.0, paint)


def _paint_roadside(canvas: Canvas, rng: Generator, street: Street) -> None:
    """Houses and parks along both sides, then walls, fences and bushes before them."""
    for side in (0, 1):
        sign = (-1, 1)[side]
        z = rng.uniform(2.0, 6.0)
        plots = []
        while z < 95:
            length = rng.uniform(7, 15)
            plots.append((z, z + length, rng.random() < 0.68))
            z += length + rng.uniform(0.0, 3.0) * (rng.random() < 0.4)
        for z0, z1, built in reversed(plots):
            if built:
                roadside.building(canvas, rng, street.front[side], sign, z0, z1)
                continue
            for depth in np.arange(z1, z0, -3.0):
                x = street.front[side] + sign * rng.uniform(1.5, 5.0)
                roadside.tree(canvas, rng, x, depth)
        edge = street.walk[side] + sign * 0.1
        kind = rng.choice(
            ["wall", "fence", "hedge", "open"], p=[0.34, 0.36, 0.14, 0.16]
        )
        near = rng.uniform(3, 6)
        far = near + rng.uniform(14, 30)
        if kind == "hedge":
            for depth in np.arange(far, near, -1.4):
                roadside.tree(canvas, rng, edge + sign * 0.5, depth, bush=True)
        elif kind != "open":
            paint = roadside.wall if kind == "wall" else roadside.fence
            paint(canvas, rng, edge, sign, near, far)


Thing = tuple[float, Callable[[], None]]  # distance, how to paint it


def _street_furniture(canvas: Canvas, rng: Generator, street: Street) -> list[Thing]:
    """Poles, signs, lights, trees and bins on the sidewalks."""
    things: list[Thing] = []

    def add(paint, chance: float, most: int, near: float, far: float) -> None:
        for _ in range(most):
            if rng.random() > chance:
                continue
            side = rng.integers(2)
            z = rng.uniform(near, far)
            inset = rng.uniform(0.3, 0.9) * (-1, 1)[side]
            x = street.road[side] + inset
            things.append((z, functools.partial(paint, canvas, rng, x, z)))

    add(roadside.lamp_post, 0.5, 2, 7, 13)
    add(roadside.traffic_light, 0.4, 2, 6, 10)
    add(roadside.traffic_sign, 0.5, 2, 6, 10)
    add(roadside.tree, 0.3, 3, 12, 35)
    add(roadside.litter_bin, 0.25, 1, 7, 14)
    return things


def _traffic(canvas: Canvas, rng: Generator, street: Street) -> list[Thing]:
    """Vehicles and people, placed so that the large do not hide each other."""
    things: list[Thing] = []
    taken: list[tuple[float, float]] = []

    def place(paint, width, length, choose, overlap=0.3) -> None:
        for _ in range(12):
            pose = choose()
            ends = np.array([-0.5, 0.5]) * length
            sides = np.array([[-0.5], [0.5]]) * width
            corners = pose.to_world(sides, 0.0, ends).reshape(-1, 3)
            if corners[:, 2].min() < 3.0:
                continue
            x = canvas.project(corners)[:, 0]
            span = x.min(), x.max()
            seen = min(span[1], canvas.width) - max(span[0], 0.0)
            hidden = sum(max(0, min(span[1], b) - max(span[0], a)) for a, b in taken)
            if seen > 0.6 * (span[1] - span[0]) and hidden < overlap * seen:
                taken.append(span)
                nearest = corners[:, 2].min()
                things.append((nearest, functools.partial(paint, canvas, rng, pose)))
                return

    r0, r1 = street.road

    def in_lane(near: float, far: float, length: float) -> Callable[[], Pose]:
        def choose() -> Pose:
            z = rng.uniform(near, far) + length / 2
            lane = rng.integers(3)
            if lane == 0:  # oncoming
                return Pose(rng.uniform(r0 + 1.5, street.middle - 1.0), z, np.pi)
            if lane == 1:
                return Pose(rng.uniform(street.middle + 0.8, r1 - 1.4), z, 0.0)
            turn = rng.choice([-1, 1]) * np.pi / 2 + rng.uniform(-0.4, 0.4)
            away = rng.uniform(near, far) + 1.0 + length / 3
            return Pose(rng.uniform(-6, 6), away, turn)

        return choose

    def on_foot(low: float, high: float) -> Callable[[], Pose]:
        def choose() -> Pose:
            z = rng.uniform(3.7, 6.8)
            yaw = rng.choice([0.0, np.pi]) + rng.uniform(-0.6, 0.6)
            return Pose(rng.uniform(low, high), z, yaw)

        return choose

    def ridden(machine, helmet: bool) -> Callable[[Canvas, Generator, Pose], None]:
        def paint(canvas: Canvas, rng: Generator, pose: Pose) -> None:
            machine(canvas, rng, pose)
            people.rider(canvas, rng, pose, helmet=helmet)

        return paint

    walk = street.walk
    for paint, chance, length in (
        (vehicles.train, 0.4, 17.5),
        (vehicles.bus, 0.5, 11.5),
        (vehicles.truck, 0.5, 8.0),
    ):
        if rng.random() < chance:
            place(paint, 2.7, length, in_lane(7.0, 13.0, length))
    place(vehicles.car, 1.9, 4.3, in_lane(4.5, 14.0, 4.3))
    for machine, helmet in ((people.bicycle, False), (people.motorcycle, True)):
        if rng.random() < 0.5:
            on_road = on_foot(r0 + 0.5, r1 - 0.5)
            place(ridden(machine, helmet), 1.8, 0.4, on_road, overlap=0.6)
        if rng.random() < 0.35:
            parked = on_foot(walk[0] + 0.5, walk[1] - 0.5)
            place(machine, 1.8, 0.4, parked, overlap=0.6)
    for _ in range(rng.integers(1, 4)):
        place(vehicles.car, 1.9, 4.3, in_lane(4.5, 14.0, 4.3))
    for _ in range(rng.integers(1, 4)):
        strolling = on_foot(walk[0] + 0.4, walk[1] - 0.4)
        place(people.pedestrian, 0.8, 0.4, strolling, overlap=0.6)
    return things


def _paint_ego_vehicle(canvas: Canvas, rng: Generator) -> None:
    """The bonnet and the rim that cameras see and the benchmark ignores."""
    h, w = canvas.height, canvas.width
    if rng.random() < 0.6:
        paint = hsv(rng, saturation=(0.0, 0.3), value=(0.08, 0.5))
        rise = rng.uniform(0.05, 0.1) * h
        canvas.fill(disc(w / 2, h, 0.56 * w, rise, n=48), paint, RawId.EGO_VEHICLE)
        shine = disc(w * rng.uniform(0.3, 0.7), h, 0.25 * w, 0.5 * rise, n=32)
        canvas.fill(shine, 1.3 * paint + 12, RawId.EGO_VEHICLE)
    if rng.random() < 0.3:
        rim = max(2.0, 0.012 * h)
        black = np.zeros(3)
        for band in (
            rect(0, 0, rim, h),
            rect(0, h - rim, w, h),
            rect(w - rim, 0, w, h),
        ):
            canvas.fill(band, black, RawId.OUT_OF_ROI)
