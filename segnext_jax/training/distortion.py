"""Both published colour distortions: [b h w 3] RGB, integers 0…255 as float32.

The peers round to uint8 after every step, and so do these.
"""

import jax
import jax.numpy as jnp


def photometric(image: jax.Array, keys: jax.Array) -> jax.Array:
    """PhotoMetricDistortion of mmsegmentation.

    Brightness +U(-32, 32); contrast ×U(0.5, 1.5), before or after the rest;
    saturation ×U(0.5, 1.5); hue -18…17 of 180; each with probability 0.5. Where both
    are drawn, saturation and hue share one conversion to HSV (the peer makes two).

    Args:
      image: [b h w 3] RGB in 0…255, any dtype.
      keys: [b] PRNG keys.

    Returns:
      [b h w 3] float32.
    """
    return jax.vmap(_photometric)(image.astype(jnp.float32), keys)


def _photometric(image, key):
    draw, delta, contrast, saturation, hue = jax.random.split(key, 5)
    draw = jax.random.bernoulli(draw, 0.5, (5,))
    delta = jnp.where(draw[0], jax.random.uniform(delta, (), minval=-32, maxval=32), 0)
    contrast = jax.random.uniform(contrast, (), minval=0.5, maxval=1.5)
    contrast = jnp.where(draw[1], contrast, 1)
    contrast_first = draw[2]
    saturation = jax.random.uniform(saturation, (), minval=0.5, maxval=1.5)
    saturation = jnp.where(draw[3], saturation, 1)
    hue = jnp.where(draw[4], jax.random.randint(hue, (), -18, 18), 0)

    image = _to_uint8(image + delta)
    image = _to_uint8(image * jnp.where(contrast_first, contrast, 1))
    h, s, v = _opencv_hsv(image)
    shifted = _opencv_rgb((h + hue) % 180, _to_uint8(s * saturation), v)
    image = jnp.where(draw[3] | draw[4], shifted, image)
    return _to_uint8(image * jnp.where(contrast_first, 1, contrast))


def paddle(image: jax.Array, keys: jax.Array) -> jax.Array:
    """RandomDistort of PaddleSeg with its defaults, which act through Pillow.

    In random order, each with probability 0.5: brightness ×U(0.5, 1.5), contrast and
    saturation blended by U(0.5, 1.5) with the mean grey and the grey image, hue
    ±U(0, 18) of 256. Arguments and result as `photometric`.
    """
    return jax.vmap(_paddle)(image.astype(jnp.float32), keys)


def _paddle(image, key):
    order, draw, factors, shift = jax.random.split(key, 4)
    order = jax.random.permutation(order, 4)
    draw = jax.random.bernoulli(draw, 0.5, (4,))
    factors = jnp.where(
        draw, jax.random.uniform(factors, (4,), minval=0.5, maxval=1.5), 1
    )
    shift = jax.random.uniform(shift, (), minval=-18, maxval=18)
    shift = jnp.where(draw[3], shift, 0)
    for operation in order:
        grey = _pillow_grey(image)
        mean = jnp.floor(jnp.mean(grey) + 0.5)
        # Brightness, contrast and saturation blend with black, mean grey and grey.
        other = jnp.select([operation == 0, operation == 1], [0.0, mean], grey)
        blended = _to_uint8(other + factors[operation] * (image - other))
        h, s, v = _pillow_hsv(image)
        # Pillow's hue is a byte that wraps; NumPy truncates the sum when storing it.
        shifted = _pillow_rgb(jnp.trunc(h + shift) % 256, s, v)
        shifted = jnp.where(draw[3], shifted, image)
        image = jnp.where(operation == 3, shifted, blended)
    return image


def _none(image, keys):
    del keys
    return image


DISTORTIONS = {"none": _none, "photometric": photometric, "paddle": paddle}


def _to_uint8(x):
    return jnp.floor(jnp.clip(x, 0, 255))


def _opencv_hsv(image):
    """OpenCV's uint8 HSV: hue in 0…179, saturation and value in 0…255; [h w 1] each.

    In the fixed-point arithmetic of its tables, which rounding would miss by one hue in
    3 % of pixels, up to 9 grey levels after the way back.
    """
    r, g, b = jnp.split(image.astype(jnp.int32), 3, axis=-1)
    value = jnp.maximum(jnp.maximum(r, g), b)
    chroma = value - jnp.minimum(jnp.minimum(r, g), b)
    saturation = _fixed_point(chroma, 255, jnp.maximum(value, 1))
    offset = jnp.select(
        [value == r, value == g], [g - b, b - r + 2 * chroma], r - g + 4 * chroma
    )
    hue = _fixed_point(offset, 30, jnp.maximum(chroma, 1))
    hue = jnp.where(hue < 0, hue + 180, hue)
    return tuple(x.astype(jnp.float32) for x in (hue, saturation, value))


def _fixed_point(x, scale, divisor):
    """scale·x / divisor, by a reciprocal of 12 fractional bits."""
    reciprocal = ((scale << 13) + divisor) // (2 * divisor)
    return (x * reciprocal + 2048) >> 12


def _opencv_rgb(h, s, v):
    # OpenCV's vectorised path truncates. The margin keeps whole numbers whole.
    return jnp.floor(_from_sextant(h / 30, s / 255, v, round_=lambda x: x) + 1e-4)


def _pillow_hsv(image):
    """Pillow's HSV: all three in 0…255, truncated; [h w 1] each."""
    value, chroma, sextant = _hue_parts(image)
    saturation = jnp.floor(255 * chroma / jnp.maximum(value, 1))
    return jnp.floor(255 * (sextant / 6)), saturation, value


def _pillow_rgb(h, s, v):
    return _from_sextant(h * 6 / 255, s / 255, v, round_=lambda x: jnp.floor(x + 0.5))


def _pillow_grey(image):
    weights = jnp.array([19595.0, 38470.0, 7471.0])
    return jnp.floor((jnp.sum(image * weights, -1, keepdims=True) + 32768) / 65536)


def _hue_parts(image):
    """(value, chroma, hue in 0…6), each [h w 1]."""
    r, g, b = jnp.split(image, 3, axis=-1)
    value = jnp.maximum(jnp.maximum(r, g), b)
    chroma = value - jnp.minimum(jnp.minimum(r, g), b)
    safe = jnp.maximum(chroma, 1)
    sextant = jnp.select(
        [value == r, value == g],
        [(g - b) / safe, 2 + (b - r) / safe],
        4 + (r - g) / safe,
    )
    return value, chroma, sextant % 6


def _from_sextant(sextant, saturation, value, round_):
    """Hue in 0…6, saturation in 0…1, value in any unit → RGB in that unit."""
    whole = jnp.floor(sextant)
    fraction = sextant - whole
    p = round_(value * (1 - saturation))
    q = round_(value * (1 - saturation * fraction))
    t = round_(value * (1 - saturation * (1 - fraction)))
    cases = [whole % 6 == i for i in range(5)]
    return jnp.concatenate(
        [
            jnp.select(cases, [value, q, p, p, t], value),
            jnp.select(cases, [t, value, value, q, p], p),
            jnp.select(cases, [p, p, t, value, value], q),
        ],
        axis=-1,
    )
