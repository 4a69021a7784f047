"""From the views of an image to its class map, as the published protocols do it.

Arrays hold one image, [1 h w …]: rounding depends on shapes, so a batch would make
scores depend on what shares it. A true size is int32 [1 2], or None for a full array.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from segnext_jax.evaluation.protocol import Protocol
from segnext_jax.models.segnext import SegNeXt, Variables, logits_size
from segnext_jax.ops.argmax import argmax_enlarged
from segnext_jax.ops.normalize import normalize
from segnext_jax.ops.resize import resize_valid
from segnext_jax.ops.valid import Size, flip_horizontally, zero_outside

Shape = tuple[int, int]
# (normalised image [1 h w 3], its size, key) → logits [1 h w c]
_Network = Callable[[jax.Array, Size, jax.Array | None], jax.Array]


def predict_image(
    model: SegNeXt,
    variables: Variables,
    views: Sequence[jax.Array],
    shape: Shape,
    protocol: Protocol,
    *,
    size: Size = None,
    view_sizes: jax.Array | None = None,
    key: jax.Array | None = None,
) -> jax.Array:
    """Classes of one image, uint8 [1 h w]: those with the highest `score_image`."""
    if size is None and _is_direct(views, shape, protocol):
        image, key = normalize(views[0]), _fold_in(key, 0)
        return argmax_enlarged(_apply(model, variables, image, None, key), shape)
    scores = score_image(
        model,
        variables,
        views,
        shape,
        protocol,
        size=size,
        view_sizes=view_sizes,
        key=key,
    )
    return jnp.argmax(scores, axis=-1).astype(jnp.uint8)


def _is_direct(views: Sequence[jax.Array], shape: Shape, protocol: Protocol) -> bool:
    """Whether the scores are the logits of the only view, enlarged once."""
    is_one_window = all(c >= s for c, s in zip(protocol.crop_size, shape, strict=True))
    return (
        len(views) == 1
        and views[0].shape[1:3] == shape
        and (protocol.mode == "whole" or is_one_window)
        and not protocol.flip
        and not any(side % protocol.pad_divisor for side in shape)
    )


def _apply(model: SegNeXt, variables: Variables, image, size, key) -> Any:
    """Logits of a normalised image at stride 8."""
    rngs = None if key is None else {"nmf": key}
    return model.apply(variables, image, train=False, size=size, rngs=rngs)


def score_image(
    model: SegNeXt,
    variables: Variables,
    views: Sequence[jax.Array],
    shape: Shape,
    protocol: Protocol,
    *,
    size: Size = None,
    view_sizes: jax.Array | None = None,
    key: jax.Array | None = None,
) -> jax.Array:
    """Scores of the classes of one image.

    Every view, and its mirror image, gives logits at its own size and then at that of
    the image; their probabilities or logits are summed (mmsegmentation `SegTTAModel`;
    PaddleSeg `aug_inference`). One view alone gives logits.

    Args:
      model: the network.
      variables: its weights.
      views: [1 h w 3] RGB 0…255 each, uint8 or float32, made by `data/evaluation.py`.
      shape: (height, width) of the result.
      protocol: how.
      size: true size of the image in the result.
      view_sizes: int32 [1 s 2], true sizes of the views; given if `size` is.
      key: draws the bases of the NMF; None: the usual ones.

    Returns:
      [1 h w c] float32; of no meaning outside the image.
    """

    def network(image: jax.Array, size: Size, key: jax.Array | None) -> jax.Array:
        logits = _apply(model, variables, image, size, key)
        return resize_valid(logits, logits_size(size), size, image.shape[1:3])

    sizes = [
        None if view_sizes is None else view_sizes[:, i] for i in range(len(views))
    ]
    is_averaged = len(views) > 1 or protocol.flip
    total: Any = 0
    for i, (view, view_size) in enumerate(zip(views, sizes, strict=True)):
        scores = _view_scores(
            network,
            view,
            view_size,
            protocol,
            _fold_in(key, i),
            lambda logits, view_size=view_size: _to_output(
                logits, view_size, size, shape
            ),
            softmax=is_averaged and protocol.average == "probabilities",
        )
        total = total + scores
    return total


def _view_scores(network, view, size, protocol, key, to_output, *, softmax):
    """Scores of one view at the size of the result, with its mirror image if asked."""

    def scores(is_mirrored: jax.Array | bool, key: jax.Array | None) -> jax.Array:
        image = view
        if protocol.flip:
            image = jnp.where(is_mirrored, flip_horizontally(view, size), view)
        image = zero_outside(normalize(image), size)
        logits = _logits(network, image, size, protocol, key)
        if protocol.flip:
            logits = jnp.where(is_mirrored, flip_horizontally(logits, size), logits)
        logits = to_output(logits)
        return jax.nn.softmax(logits, axis=-1) if softmax else logits

    if not protocol.flip:
        return scores(False, key)
    # A loop, so that the network is compiled once.
    first = jax.eval_shape(scores, False, key)
    return lax.fori_loop(
        0,
        2,
        lambda i, total: total + scores(i == 1, _fold_in(key, i)),
        jnp.zeros(first.shape, first.dtype),
    )


def _to_output(logits: jax.Array, view_size: Size, size: Size, shape: Shape):
    """Logits at the size of a view → at that of the image."""
    if size is None or logits.shape[1:3] != shape:
        return resize_valid(logits, view_size, size, shape)
    # Views mostly are as large as the image: that costs nothing.
    return lax.cond(
        jnp.all(view_size == size),
        lambda logits: logits,
        lambda logits: resize_valid(logits, view_size, size, shape),
        logits,
    )


def _logits(network, image, size, protocol, key):
    """Logits of a normalised view at its own size, whole or from windows."""
    h, w = image.shape[1:3]
    pad_h, pad_w = (-side % protocol.pad_divisor for side in (h, w))
    image = jnp.pad(image, ((0, 0), (0, pad_h), (0, pad_w), (0, 0)))
    if size is not None:
        size = -(-size // protocol.pad_divisor) * protocol.pad_divisor
    if protocol.mode == "slide":
        logits = _slide(network, image, size, protocol, key)
    else:
        logits = network(image, size, key)
    return logits[:, :h, :w]


def _slide(network: _Network, image, size, protocol: Protocol, key):
    """Mean over windows, the last of which are shifted back into the image.

    A window that is larger than the image is as large as the image.
    """
    shape = image.shape[1:3]
    crop = jnp.array(protocol.crop_size)
    stride = jnp.array(protocol.stride)
    side = jnp.array(shape) if size is None else size[0]
    num_rows, num_columns = jnp.maximum(side - crop + stride - 1, 0) // stride + 1
    window = [min(c, s) for c, s in zip(protocol.crop_size, shape, strict=True)]
    window_size = None if size is None else jnp.minimum(crop, size)

    def add(i, carry):
        total, count = carry
        place = jnp.array([i // num_columns, i % num_columns])
        y, x = jnp.maximum(jnp.minimum(place * stride, side - crop), 0)
        cut = lax.dynamic_slice(image, (0, y, x, 0), (1, *window, 3))
        logits = network(cut, window_size, _fold_in(key, i))
        return _add(total, logits, y, x), _add(count, jnp.ones((1, *window, 1)), y, x)

    num_classes = jax.eval_shape(network, image, size, key).shape[-1]
    zeros = jnp.zeros((1, *shape, num_classes)), jnp.zeros((1, *shape, 1))
    total, count = lax.fori_loop(0, num_rows * num_columns, add, zeros)
    return total / jnp.maximum(count, 1)  # no window covers what is not image


def _add(total: jax.Array, part: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    place = (0, y, x, 0)
    here = lax.dynamic_slice(total, place, part.shape)
    return lax.dynamic_update_slice(total, here + part, place)


def _fold_in(key: jax.Array | None, i) -> jax.Array | None:
    return None if key is None else jax.random.fold_in(key, i)
