"""Both published colour distortions: [b h w 3] RGB, integers 0…255 as float32.

What is random is drawn first, one draw per image; what follows is the peers' arithmetic
on uint8, rounded after every step as there.
"""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


def photometric(image: jax.Array, keys: jax.Array) -> jax.Array:
    """PhotoMetricDistortion of mmsegmentation.

    Brightness +U(-32, 32); contrast ×U(0.5, 1.5), before or after the rest;
    saturation ×U(0.5, 1.5); hue -18…17 of 180; each with probability 0.5.

    Args:
      image: [b h w 3] RGB in 0…255, any dtype.
      keys: [b] PRNG keys.

    Returns:
      [b h w 3] float32.
    """
    return apply_photometric(image, jax.vmap(draw_photometric)(keys))


def paddle(image: jax.Array, keys: jax.Array) -> jax.Array:
    """RandomDistort of PaddleSeg with its defaults, which act through Pillow.

    In random order, each with probability 0.5: brightness ×U(0.5, 1.5), contrast and
    saturation blended by U(0.5, 1.5) with the mean grey and the grey image, hue
    ±U(0, 18) of 256. Arguments and result as `photometric`.
    """
    return apply_paddle(image, jax.vmap(draw_paddle)(keys))


def _none(image, keys):
    del keys
    return image


DISTORTIONS = {"none": _none, "photometric": photometric, "paddle": paddle}


class PhotometricDraw(NamedTuple):
    """What one image of `photometric` draws; a step whose coin is False is left out."""

    coins: jax.Array  # bool [5]: brightness, contrast, contrast first, saturation, hue
    brightness: jax.Array  # float32 (), added
    contrast: jax.Array  # float32 (), multiplies
    saturation: jax.Array  # float32 (), multiplies
    hue: jax.Array  # int32 (), added, of 180


class PaddleDraw(NamedTuple):
    """What one image of `paddle` draws, by operation: brightness, contrast,
    saturation, hue; one whose coin is False is left out."""

    order: jax.Array  # int32 [4], a permutation of the operations
    coins: jax.Array  # bool [4]
    factors: jax.Array  # float32 [4], the last one unused
    hue: jax.Array  # float32 (), added, of 256


def draw_photometric(key: jax.Array) -> PhotometricDraw:
    """Draws for one image."""
    coins, brightness, contrast, saturation, hue = jax.random.split(key, 5)
    return PhotometricDraw(
        coins=jax.random.bernoulli(coins, 0.5, (5,)),
        brightness=jax.random.uniform(brightness, (), minval=-32, maxval=32),
        contrast=jax.random.uniform(contrast, (), minval=0.5, maxval=1.5),
        saturation=jax.random.uniform(saturation, (), minval=0.5, maxval=1.5),
        hue=jax.random.randint(hue, (), -18, 18),
    )


def draw_paddle(key: jax.Array) -> PaddleDraw:
    """Draws for one image."""
    order, coins, factors, hue = jax.random.split(key, 4)
    return PaddleDraw(
        order=jax.random.permutation(order, 4),
        coins=jax.random.bernoulli(coins, 0.5, (4,)),
        factors=jax.random.uniform(factors, (4,), minval=0.5, maxval=1.5),
        hue=jax.random.uniform(hue, (), minval=-18, maxval=18),
    )


def apply_photometric(image: jax.Array, draws: PhotometricDraw) -> jax.Array:
    """Distorts [b h w 3] by [b] draws."""
    return _on_planes(_apply_photometric, image, draws)


def _apply_photometric(rgb, draw):
    has_brightness, has_contrast, contrast_first, *has_hsv = draw.coins
    contrast = jnp.where(has_contrast, draw.contrast, 1)
    brightness = jnp.where(has_brightness, draw.brightness, 0)
    first = jnp.where(contrast_first, contrast, 1)
    last = jnp.where(contrast_first, 1, contrast)
    rgb = [_to_uint8(_to_uint8(x + brightness) * first) for x in rgb]

    def change(rgb, step):
        coin, saturation, hue = step
        h, s, v = _opencv_hsv(rgb)
        changed = _opencv_rgb((h + hue) % 180, _to_uint8(s * saturation), v)
        return [
            jnp.where(coin, new, old) for new, old in zip(changed, rgb, strict=True)
        ]

    # To HSV and back once for saturation and once for hue, as the peer.
    steps = (
        jnp.stack(has_hsv),
        jnp.stack([draw.saturation, jnp.ones(())]),
        jnp.stack([jnp.zeros((), int), draw.hue]),
    )
    rgb = _scan_bytes(change, rgb, steps)
    return [_to_uint8(x * last) for x in rgb]


def apply_paddle(image: jax.Array, draws: PaddleDraw) -> jax.Array:
    """Distorts [b h w 3] by [b] draws."""
    return _on_planes(_apply_paddle, image, draws)


def _apply_paddle(rgb, draw):
    factors = jnp.where(draw.coins, draw.factors, 1)

    def change(rgb, operation):
        grey = _pillow_grey(rgb)
        # Brightness, contrast and saturation blend with black, mean grey and grey.
        other = _select(
            [operation == 0, operation == 1], [0.0, _pillow_mean(grey)], grey
        )
        # Pillow rounds the product. Nothing exceeds the bounds: they keep compilers
        # from fusing it with the sum, which is one level off in up to 1 of 300 values.
        parts = [jnp.clip(factors[operation] * (x - other), -383, 383) for x in rgb]
        blended = [_to_uint8(other + part) for part in parts]
        h, s, v = _pillow_hsv(rgb)
        # Pillow's hue is a byte that wraps; NumPy truncates the sum when storing it.
        shifted = _pillow_rgb(jnp.trunc(h + draw.hue) % 256, s, v)
        return [
            jnp.where(operation == 3, jnp.where(draw.coins[3], new, old), blend)
            for new, old, blend in zip(shifted, rgb, blended, strict=True)
        ]

    return _scan_bytes(change, rgb, draw.order)


def _on_planes(function, image, draws):
    """Maps `function` of three planes [h w] and a draw over [b h w 3] and [b] draws.

    Planes are arrays of their own. XLA for CPUs computes a conversion again for every
    channel of one array that the next conversion reads, in twice the time, and XLA for
    GPUs writes its parts to memory, five times the traffic.
    """
    planes = jnp.moveaxis(image.astype(jnp.float32), -1, 0)
    return jnp.stack(jax.vmap(function)(list(planes), draws), axis=-1)


def _scan_bytes(change, rgb, steps):
    """Planes after `change` by every step; in between they are bytes.

    The loop is for XLA on CPUs: unrolled, a step is computed again for every plane of
    the next one, in 100 times the time.
    """

    def body(levels, step):
        changed = change([x.astype(jnp.float32) for x in levels], step)
        return [x.astype(jnp.uint8) for x in changed], None

    levels, _ = jax.lax.scan(body, [x.astype(jnp.uint8) for x in rgb], steps)
    return [x.astype(jnp.float32) for x in levels]


def _to_uint8(x):
    return jnp.floor(jnp.clip(x, 0, 255))


def _opencv_hsv(rgb):
    """OpenCV's uint8 HSV: hue in 0…179, saturation and value in 0…255; [h w] each.

    In the fixed-point arithmetic of its tables, so exact for every colour. float32
    holds all of its numbers, and divides many times faster than int32.
    """
    value, chroma, offset = _hue_parts(rgb)
    saturation = _fixed_point(chroma, 255, jnp.maximum(value, 1))
    hue = _fixed_point(offset, 30, jnp.maximum(chroma, 1))
    return jnp.where(hue < 0, hue + 180, hue), saturation, value


def _fixed_point(x, scale, divisor):
    """scale·x / divisor, rounded, by a reciprocal of 12 fractional bits."""
    reciprocal = jnp.floor(scale * 4096 / divisor + 0.5)
    return jnp.floor((x * reciprocal + 2048) / 4096)


def _opencv_rgb(h, s, v):
    """The way back, truncated as by OpenCV's vectorised path.

    (It rounds the last columns of an image whose width is no multiple of 32.) The
    operations, their order and their roundings are OpenCV's: what should be a whole
    number comes out one lower where theirs does. Exact for every colour.
    """
    sextant, s, v = (x * np.float32(1 / n) for x, n in ((h, 30), (s, 255), (v, 255)))
    whole = jnp.floor(sextant)
    f = sextant - whole
    p = v * (1 - s)
    q = v * _one_minus_product(s, f)
    t = v * _one_minus_product(s, 1 - f)
    return _by_sextant(whole, *(jnp.floor(255 * x) for x in (v, p, q, t)))


def _one_minus_product(x, y):
    """1 - x·y, rounded once like OpenCV's fused multiply-add, for x and y in 0…1.

    Compilers may or may not fuse it, so it is put together from halves of 12 bits,
    whose products are exact. With two roundings 1 value in 20000 is one level off, and
    several levels after the next conversion.
    """
    x_high, y_high = (jnp.floor(4096 * a) / 4096 for a in (x, y))
    x_low, y_low = x - x_high, y - y_high
    return (1 - x_high * y_high) - (x_high * y_low + x_low * y)


def _pillow_hsv(rgb):
    """Pillow's HSV: all three in 0…255, truncated; [h w] each."""
    value, chroma, offset = _hue_parts(rgb)
    circle = jnp.maximum(6 * chroma, 1)
    offset = 255 * jnp.where(offset < 0, offset + circle, offset)
    # A quarter makes sure that the quotient of a whole number is not below it.
    hue = jnp.floor((offset + 0.25) / circle)
    is_lost = (hue * circle == offset) & _is_lost(hue.astype(jnp.int32))
    saturation = jnp.floor((255 * chroma + 0.25) / jnp.maximum(value, 1))
    return hue - is_lost, saturation, value


def _is_lost(hue):
    """Looks `_lost_hues` up, in bits: XLA has no fast look-up of bytes."""
    words = np.packbits(_lost_hues(), bitorder="little").view(np.uint32)
    word = _select([hue >> 5 == i for i in range(7)], words[:7], words[7])
    return (word >> (hue & 31).astype(jnp.uint32)) & 1 == 1


@cache
def _lost_hues() -> np.ndarray:
    """Whether Pillow's float32 truncates the hue n / 255 to n - 1, bool [256]."""
    hue = 6 * np.arange(256) / 255
    largest = 2 * np.round(hue / 2)  # red, green, blue, and red again
    # Its hue: the largest channel ± what (largest - middle) / chroma leaves of 1.
    middle = np.float32(1 - abs(hue - largest)).astype(float)
    hue = np.float32(largest % 6 + np.sign(hue - largest) * (1 - middle)).astype(float)
    turn = np.float32((hue / 6 + 1) % 1).astype(float)
    return 255 * turn < np.arange(256)


def _pillow_rgb(h, s, v):
    h, s, v = (x.astype(jnp.uint32) for x in (h, s, v))
    whole, f = 6 * h // 255, 6 * h % 255
    parts = 255 * (255 - s), 255**2 - s * f, 255**2 - s * (255 - f)
    # Rounded to nearest; 255² is odd, so there are no ties.
    p, q, t = ((v * part + 255**2 // 2) // 255**2 for part in parts)
    return [x.astype(jnp.float32) for x in _by_sextant(whole, v, p, q, t)]


def _pillow_grey(rgb):
    r, g, b = rgb
    return jnp.floor((19595 * r + 38470 * g + 7471 * b + 32768) / 65536)


def _pillow_mean(grey):
    """The mean, rounded to nearest; in integers, float32 does not hold the sum."""
    total = jnp.sum(grey.astype(jnp.uint32))
    return ((total + grey.size // 2) // grey.size).astype(jnp.float32)


def _hue_parts(rgb):
    """(value, chroma, hue · chroma in -chroma…5·chroma), [h w] each."""
    r, g, b = rgb
    value = jnp.maximum(jnp.maximum(r, g), b)
    chroma = value - jnp.minimum(jnp.minimum(r, g), b)
    offset = _select(
        [value == r, value == g], [g - b, b - r + 2 * chroma], r - g + 4 * chroma
    )
    return value, chroma, offset


def _by_sextant(sextant, v, p, q, t):
    """RGB, [h w] each, of hues in a whole sextant of the circle (6 is 0 again)."""
    cases = [sextant % 6 == i for i in range(5)]
    channels = [v, q, p, p, t, v], [t, v, v, q, p, p], [p, p, t, v, v, q]
    return [_select(cases, c[:5], c[5]) for c in channels]


def _select(conditions, choices, default):
    """What jnp.select does, which stacks the conditions in memory to find the first."""
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        default = jnp.where(condition, choice, default)
    return default
