"""What the street scenes are painted on: a camera, an image and its label.

Every primitive paints the image and the label with the same polygon, so that they
cannot disagree. Coordinates are metres: x to the right, y up from the ground, z ahead
of the camera. Painting happens at twice the final size, for smooth edges.
"""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from data.sources.scenery.colours import Colour
from data.sources.scenery.shapes import Part, disc, rect

SUPERSAMPLE = 2
_NEAREST_Z = 0.6  # metres; nearer corners are clipped to this plane


class RawId(enum.IntEnum):
    """The raw Cityscapes ids that the scenes use."""

    UNLABELED = 0
    EGO_VEHICLE = 1
    OUT_OF_ROI = 3
    STATIC = 4
    ROAD = 7
    SIDEWALK = 8
    BUILDING = 11
    WALL = 12
    FENCE = 13
    POLE = 17
    TRAFFIC_LIGHT = 19
    TRAFFIC_SIGN = 20
    VEGETATION = 21
    TERRAIN = 22
    SKY = 23
    PERSON = 24
    RIDER = 25
    CAR = 26
    TRUCK = 27
    BUS = 28
    TRAIN = 31
    MOTORCYCLE = 32
    BICYCLE = 33


@dataclass(frozen=True)
class Pose:
    """Where a thing stands and which way it faces; yaw 0 looks along z (radians)."""

    x: float
    z: float
    yaw: float = 0.0

    def to_world(self, across, up, along) -> np.ndarray:
        """Local metres, numbers or arrays that broadcast, to world points [... 3]."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        x = self.x + across * cos + along * sin
        points = np.empty((*np.shape(x), 3))
        points[..., 0] = x
        points[..., 1] = up
        points[..., 2] = self.z - across * sin + along * cos
        return points


class Canvas:
    """An image and a label seen by one camera. Sizes are (height, width) pixels."""

    def __init__(self, size: tuple[int, int], rng: Generator):
        self.height, self.width = (SUPERSAMPLE * side for side in size)
        self.horizon = self.height * rng.uniform(0.40, 0.47)
        self.focal = self.height * rng.uniform(1.05, 1.25)
        self.center_x = self.width * rng.uniform(0.43, 0.57)
        self.eye = rng.uniform(1.7, 2.1)
        self.sun = rng.uniform((-0.25, 0.08, -0.25), (0.25, 0.16, 0.25))  # by axis
        self.haze = rng.uniform(0.0, 0.02) ** 1.2  # per metre
        self.haze_colour = rng.uniform(150, 220)  # grey
        self.image = Image.new("RGB", (self.width, self.height))
        self.label = Image.new("L", (self.width, self.height), RawId.UNLABELED)
        # "RGBA" on an RGB image makes the draw calls blend, for shadows.
        self._image_draw = ImageDraw.Draw(self.image, "RGBA")
        self._label_draw = ImageDraw.Draw(self.label)

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points [n 3] to pixels [n 2] (x, y)."""
        scale = self.focal / np.maximum(points[..., 2], _NEAREST_Z)
        pixels = np.empty((*points.shape[:-1], 2))
        pixels[..., 0] = self.center_x + scale * points[..., 0]
        pixels[..., 1] = self.horizon + scale * (self.eye - points[..., 1])
        return pixels.clip(-9999, 9999)  # Pillow's limits

    def metres(self, fraction: float, z: float) -> float:
        """Length that covers `fraction` of the image height at distance z."""
        return fraction * self.height * z / self.focal

    def fill(self, pixels: np.ndarray, colour, raw_id, z=0.0, light=1.0) -> None:
        """Paints a polygon [n 2] of pixels; colour None: label, raw_id None: image."""
        self._paint([(colour, pixels)], raw_id, z, light)

    def ground(self, x0, x1, z0, z1, colour, raw_id=None) -> None:
        """A rectangle on the ground."""
        corners = np.array([[x0, 0, z0], [x1, 0, z0], [x1, 0, z1], [x0, 0, z1]])
        self.fill(self.project(corners), colour, raw_id, (z0 + z1) / 2)

    def shadow(self, pose: Pose, width: float, length: float) -> None:
        """Darkens the ground below a thing; the label stays."""
        outline = disc(0, 0, width / 2, length / 2)
        pixels = self.project(pose.to_world(outline[:, 0], 0.0, outline[:, 1]))
        self._image_draw.polygon(pixels.ravel().tolist(), (0, 0, 0, 95))

    def flat(self, pose: Pose, parts: Sequence[Part], raw_id, light=1.0) -> None:
        """A cardboard figure; the parts' polygons are (across, up) metres."""
        outlines = np.concatenate([outline for _, outline in parts])
        points = pose.to_world(outlines[:, 0], outlines[:, 1], 0.0)
        self._paint(_regroup(parts, self.project(points)), raw_id, pose.z, light)

    def box(
        self,
        pose: Pose,
        across: tuple[float, float],
        up: tuple[float, float],
        along: tuple[float, float],
        colour: Colour,
        raw_id,
        *,
        inset: tuple[float, float, float] = (0.0, 0.0, 0.0),
        decals: Mapping[str, Sequence[Part]] | None = None,
    ) -> None:
        """A box whose top is smaller by `inset` (each side, rear, front) metres.

        `decals` are parts painted on the faces rear, front and side, with polygons in
        face coordinates 0..1: (across or along, up).
        """
        (a0, a1), (y0, y1), (l0, l1) = across, up, along
        side, rear, front = inset
        low = [(a0, y0, l0), (a1, y0, l0), (a1, y0, l1), (a0, y0, l1)]
        top = [
            (a0 + side, y1, l0 + rear),
            (a1 - side, y1, l0 + rear),
            (a1 - side, y1, l1 - front),
            (a0 + side, y1, l1 - front),
        ]
        corner = pose.to_world(*np.array(low + top).T)
        ahead = np.array([np.sin(pose.yaw), 0, np.cos(pose.yaw)])
        right = np.array([np.cos(pose.yaw), 0, -np.sin(pose.yaw)])
        faces = (  # decals, corners (u v = 00 10 11 01), outward normal
            ("top", corner[[4, 5, 6, 7]], np.array([0.0, 1.0, 0.0])),
            ("front", corner[[3, 2, 6, 7]], ahead),
            ("rear", corner[[0, 1, 5, 4]], -ahead),
            ("side", corner[[0, 3, 7, 4]], -right),
            ("side", corner[[1, 2, 6, 5]], right),
        )
        eye = np.array([0.0, self.eye, 0.0])
        for name, corners, normal in faces:
            if normal @ (eye - corners.mean(axis=0)) <= 0:
                continue
            light = 0.88 + float(normal @ self.sun)
            z = float(corners[:, 2].min())
            body = [(colour, rect(0, 0, 1, 1)), *(decals or {}).get(name, ())]
            u, v = np.concatenate([outline for _, outline in body]).T[:, :, None]
            bottom = corners[0] + u * (corners[1] - corners[0])
            top = corners[3] + u * (corners[2] - corners[3])
            pixels = self.project(bottom + v * (top - bottom))
            self._paint(_regroup(body, pixels), raw_id, z, light)

    def _paint(self, parts: Sequence[Part], raw_id, z: float, light: float) -> None:
        clear = float(np.exp(-self.haze * max(z, 0.0)))
        gain, mist = clear * light, (1.0 - clear) * self.haze_colour
        for colour, pixels in parts:
            corners = pixels.ravel().tolist()
            if colour is not None:
                rgb = tuple(
                    min(max(int(gain * part + mist), 0), 255)
                    for part in colour.tolist()
                )
                self._image_draw.polygon(corners, rgb)
            if raw_id is not None:
                self._label_draw.polygon(corners, int(raw_id))

    def finish(self, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
        """Texture, light and sensor; image uint8 [h w 3], raw label uint8 [h w]."""
        label = np.asarray(self.label)[::SUPERSAMPLE, ::SUPERSAMPLE].copy()
        image = np.asarray(self.image.reduce(SUPERSAMPLE), np.float32)
        h, w = label.shape
        fine = _noise(rng, h, w, h, w)
        blobs = _noise(rng, h, w, h // 4, w // 4)
        patches = _noise(rng, h, w, h // 20, w // 20)
        clouds = _noise(rng, h, w, h // 10, w // 40) + 0.4 * patches

        amount = _TEXTURE[label]
        gain = amount[..., 0] * fine + amount[..., 1] * blobs + amount[..., 2] * patches
        image *= np.maximum(1.0 + gain, 0.25)[..., None]
        cover = np.clip(rng.uniform(-0.6, 0.7) + 0.7 * clouds, 0, 1) * 0.75
        cover = np.where(label == RawId.SKY, cover, 0.0)[..., None]
        image += cover * (rng.uniform(200, 245) - image)

        x = np.linspace(-1, 1, w, dtype=np.float32)
        y = np.linspace(-1, 1, h, dtype=np.float32)[:, None]
        slant = rng.uniform(-0.12, 0.12, 2)
        gain = 1.0 + slant[0] * x + slant[1] * y - 0.06 * (x * x + y * y)
        gain = gain * rng.uniform(0.75, 1.2)
        cast = 1.0 + rng.uniform(-0.1, 0.1, 3)
        image = image * gain[..., None] * cast
        image = 255.0 * (np.clip(image, 0, 255) / 255.0) ** rng.uniform(0.75, 1.15)

        soft = Image.fromarray(image.astype(np.uint8)).filter(
            ImageFilter.GaussianBlur(rng.uniform(0.2, 0.6) * h / 128)
        )
        grain = rng.uniform(1.5, 4.5) * rng.standard_normal((h, w, 3), np.float32)
        noisy = np.asarray(soft, np.float32) + grain
        return np.clip(noisy, 0, 255).astype(np.uint8), label


def _regroup(parts: Sequence[Part], pixels: np.ndarray) -> list[Part]:
    """The parts with their polygons replaced by consecutive rows of pixels [n 2]."""
    ends = np.cumsum([len(outline) for _, outline in parts])[:-1]
    polygons = np.split(pixels, ends)
    return [(colour, each) for (colour, _), each in zip(parts, polygons, strict=True)]


def _noise(rng: Generator, h: int, w: int, rows: int, columns: int) -> np.ndarray:
    """Smooth noise [h w], about unit variance, with rows x columns bumps."""
    small = rng.standard_normal((max(rows, 2), max(columns, 2)), dtype=np.float32)
    if (rows, columns) == (h, w):
        return small
    resized = Image.fromarray(small).resize((w, h), Image.Resampling.BICUBIC)
    return np.asarray(resized)


def _texture_table() -> np.ndarray:
    """Relative strength of fine, blob and patch noise by raw id [34 3]."""
    table = np.tile(np.array([0.03, 0.02, 0.03], np.float32), (34, 1))
    table[RawId.SKY] = 0.0, 0.0, 0.03
    table[RawId.ROAD] = 0.05, 0.02, 0.07
    table[RawId.SIDEWALK] = 0.04, 0.03, 0.06
    table[RawId.BUILDING] = 0.04, 0.03, 0.06
    table[RawId.WALL] = 0.09, 0.07, 0.10
    table[RawId.VEGETATION] = 0.18, 0.24, 0.08
    table[RawId.TERRAIN] = 0.22, 0.06, 0.12
    return table


_TEXTURE = _texture_table()
