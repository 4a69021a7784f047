"""Views: an image at the sizes at which the network sees it, as the peers make them."""

from typing import Any

import cv2
import numpy as np

Size = tuple[int, int]  # height, width


def view_sizes(size: Size, eval_config: Any) -> tuple[Size, ...]:
    """The size of every view, one a scale, of an image of this size.

    As `config.eval.rescale` says: "uint8" as mmcv (`rescale_size` into the scaled box
    of `resize_to`, or of the image itself), "float32" as PaddleSeg (each side rounded).
    Then stretched to multiples of `size_divisor` (mmsegmentation ResizeToMultiple).
    """
    return tuple(
        _resize_steps(size, scale, eval_config)[-1] for scale in eval_config.scales
    )


def check_views(eval_config: Any) -> None:
    """Raises ValueError for values of config.eval that make no views."""
    scales, box = tuple(eval_config.scales), tuple(eval_config.resize_to)
    rules = {
        "scales": (scales and _are_positive(scales), "one or more numbers above 0"),
        "resize_to": (
            not box or (len(box) == 2 and _are_positive(box)),
            "() or (h, w), both above 0",
        ),
        "size_divisor": (eval_config.size_divisor >= 1, "1 (as it is) or more"),
        "rescale": (
            eval_config.rescale in ("uint8", "float32"),
            "'uint8' or 'float32'",
        ),
        "batch_size": (eval_config.batch_size >= 1, "1 or more"),
    }
    for key, (is_legal, legal) in rules.items():
        if not is_legal:
            raise ValueError(
                f"config.eval.{key} is {getattr(eval_config, key)!r}: use {legal}"
            )


def make_views(image: np.ndarray, eval_config: Any) -> tuple[np.ndarray, ...]:
    """The views of an image, uint8 [h w 3] RGB: uint8 or float32, of `view_sizes`."""
    views = []
    for scale in eval_config.scales:
        view = image
        *first, last = _resize_steps(image.shape[:2], scale, eval_config)
        for size in first:
            view = _resize(view, size)
        view = view.astype(view_dtype(scale, eval_config), copy=False)
        views.append(_resize(view, last))
    return tuple(views)


def view_dtype(scale: float, eval_config: Any) -> type:
    """Of a view: the same for all images, whether or not they were resized."""
    is_scaled = eval_config.rescale == "float32" and scale != 1
    return np.float32 if is_scaled else np.uint8


def _resize_steps(size: Size, scale: float, eval_config: Any) -> list[Size]:
    """The sizes that an image is brought to, one after the other, as the peers do."""
    box = tuple(eval_config.resize_to)
    if eval_config.rescale == "uint8":
        if box:
            box = int(box[0] * scale), int(box[1] * scale)
        else:
            box = _round_half_up(size, scale)
        steps = [_round_half_up(size, _fit(size, box))]
    else:
        steps = []
        if box:
            factor = _fit(size, box)
            steps.append((round(size[0] * factor), round(size[1] * factor)))
        steps.append(_round_half_up(steps[-1] if steps else size, scale))
    divisor = eval_config.size_divisor
    if divisor > 1:
        h, w = steps[-1] if eval_config.rescale == "uint8" else steps.pop()
        steps.append((-(-h // divisor) * divisor, -(-w // divisor) * divisor))
    return steps


def _fit(size: Size, box: Size) -> float:
    """The factor that fits an image, upright or not, into a box (mmcv rescale_size)."""
    return min(max(box) / max(size), min(box) / min(size))


def _round_half_up(size: Size, factor: float) -> Size:
    h, w = (max(int(side * factor + 0.5), 1) for side in size)
    return h, w


def _resize(image: np.ndarray, size: Size) -> np.ndarray:
    if image.shape[:2] == size:
        return image
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)


def _are_positive(values: tuple[Any, ...]) -> bool:
    # A misspelt number on the command line is a text.
    return all(isinstance(value, (int, float)) and value > 0 for value in values)
