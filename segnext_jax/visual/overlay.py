"""Labels and predictions as pictures."""

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from segnext_jax.visual.legend import INK, draw_legend, load_font

IGNORE_LABEL = 255
GAP = 4  # pixels of white between pictures

Palette = Sequence[Sequence[int]]  # RGB, 0..255, one for each class

_STRIPE = np.array((175, 175, 175), np.uint8)
_RED = np.array((214, 39, 40), np.uint8)
_HEADINGS = ("image", "truth", "prediction")


def colorize(
    label: np.ndarray,
    palette: Palette,
    ignore_color: tuple[int, int, int] = (0, 0, 0),
) -> np.ndarray:
    """Paints every train id in its colour.

    Args:
      label: integer [h w], ids of the palette or 255 (ignored).
      palette: RGB colours 0..255, one for each class.
      ignore_color: RGB colour of ignored pixels.

    Returns:
      uint8 [h w 3] RGB.

    Raises ValueError for a label of other shape or type, and for an id without colour.
    """
    label = np.asarray(label)
    if label.ndim != 2 or not np.issubdtype(label.dtype, np.integer):
        raise ValueError(
            f"a label must be integers [h w]; got {label.dtype} {list(label.shape)}"
        )
    colors = np.asarray(palette, np.uint8).reshape(-1, 3)
    ids = np.unique(label)
    illegal = ids[(ids != IGNORE_LABEL) & ((ids < 0) | (ids >= len(colors)))]
    if illegal.size:
        raise ValueError(
            f"train ids {illegal.tolist()} have no colour: the palette has"
            f" ids 0..{len(colors) - 1}, and {IGNORE_LABEL} is ignored"
        )
    table = np.empty((256, 3), np.uint8)
    table[: len(colors)] = colors
    table[IGNORE_LABEL] = ignore_color
    return table[label]


def overlay(
    image: np.ndarray, label: np.ndarray, palette: Palette, alpha: float = 0.5
) -> np.ndarray:
    """Blends the colours of a label over its image; ignored pixels stay as they are.

    Args:
      image: uint8 [h w 3] RGB.
      label: integer [h w] train ids, 255 = ignored.
      palette: RGB colours 0..255, one for each class.
      alpha: weight of the label's colour, 0..1.

    Returns:
      uint8 [h w 3] RGB.

    Raises ValueError for shapes that differ and for alpha outside 0..1.
    """
    _check_image(image, label=label)
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha = {alpha} must be between 0 and 1")
    blend = (1.0 - alpha) * image + alpha * colorize(label, palette)
    ignored = np.asarray(label)[..., None] == IGNORE_LABEL
    return np.where(ignored, image, np.rint(blend).astype(np.uint8))


def hatch(
    image: np.ndarray,
    where: np.ndarray,
    *,
    paper: tuple[int, int, int] | None = None,
) -> np.ndarray:
    """Marks pixels by diagonal stripes.

    Args:
      image: uint8 [h w 3] RGB.
      where: bool [h w], the pixels to mark.
      paper: RGB colour between the stripes; the image itself, faint, if None.

    Returns:
      uint8 [h w 3] RGB.
    """
    _check_image(image, where=where)
    h, w = where.shape
    # Wide enough for the eye in a page of many pictures, and fine enough for an edge.
    period = int(np.clip(max(h, w) // 48, 6, 16))
    y, x = np.ogrid[:h, :w]
    is_stripe = ((x + y) % period < period // 2)[..., None]
    between = image // 2 + 40 if paper is None else np.array(paper, np.uint8)
    return np.where(
        where[..., None], np.where(is_stripe, _STRIPE, between), image
    ).astype(np.uint8)


def differences(image: np.ndarray, truth: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """Marks in red, on the faint grey image, where the prediction is not the truth.

    Args:
      image: uint8 [h w 3] RGB.
      truth: integer [h w] train ids, 255 = ignored: hatched.
      pred: integer [h w] train ids.

    Returns:
      uint8 [h w 3] RGB.

    Raises ValueError for shapes that differ.
    """
    _check_image(image, truth=truth, pred=pred)
    grey = 140 + 0.4 * image.mean(axis=-1, keepdims=True)
    faint = np.rint(np.broadcast_to(grey, image.shape)).astype(np.uint8)
    is_ignored = np.asarray(truth) == IGNORE_LABEL
    is_wrong = ~is_ignored & (np.asarray(truth) != pred)
    return hatch(np.where(is_wrong[..., None], _RED, faint), is_ignored)


def panel(
    image: np.ndarray, truth: np.ndarray, pred: np.ndarray, palette: Palette
) -> np.ndarray:
    """Places image, truth and prediction side by side; ignored truth is black.

    Args:
      image: uint8 [h w 3] RGB.
      truth: integer [h w] train ids, 255 = ignored.
      pred: integer [h w] train ids.
      palette: RGB colours 0..255, one for each class.

    Returns:
      uint8 [h 3*w+2*GAP 3] RGB.

    Raises ValueError for shapes that differ.
    """
    _check_image(image, truth=truth, pred=pred)
    gap = np.full((image.shape[0], GAP, 3), 255, np.uint8)
    columns = [image, gap, colorize(truth, palette), gap, colorize(pred, palette)]
    return np.concatenate(columns, axis=1)


def mosaic(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Stacks panels, uint8 [h w 3], with white gaps between them.

    Narrower ones are enlarged to the width of the widest.

    Raises ValueError if there is none.
    """
    if not panels:
        raise ValueError("a mosaic needs at least one panel")
    width = max(each.shape[1] for each in panels)
    gap = np.full((GAP, width, 3), 255, np.uint8)
    rows = [row for each in panels for row in (gap, _widen(each, width))]
    return np.concatenate(rows[1:], axis=0)


def save_predictions(
    path: str | os.PathLike[str],
    panels: Sequence[np.ndarray],
    names: Sequence[str],
    palette: Palette,
) -> None:
    """Writes panels under column headings, with a legend of the classes below.

    Args:
      path: PNG file to write; its folder must exist.
      panels: results of `panel`, of any widths.
      names: class names.
      palette: RGB colours 0..255, one for each name.

    Raises ValueError if names and colours are not equally many.
    """
    if len(names) != len(palette):
        raise ValueError(f"{len(names)} class names but {len(palette)} colours")
    body = mosaic(panels)
    height, width = body.shape[:2]
    font, size = load_font(width)
    head = round(1.8 * size)
    legend = draw_legend(list(zip(names, palette, strict=True)), width)
    page = Image.new("RGB", (width, head + height + legend.height), "white")
    page.paste(Image.fromarray(body), (0, head))
    page.paste(legend, (0, head + height))
    draw = ImageDraw.Draw(page)
    column = (width - 2 * GAP) // 3
    for number, heading in enumerate(_HEADINGS):
        middle = number * (column + GAP) + column // 2
        draw.text((middle, head // 2), heading, INK, font, anchor="mm")
    page.save(path, format="PNG")


def _widen(panel: np.ndarray, width: int) -> np.ndarray:
    height = round(panel.shape[0] * width / panel.shape[1])
    if width == panel.shape[1]:
        return panel
    image = Image.fromarray(panel).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _check_image(image: np.ndarray, **labels: np.ndarray) -> None:
    if image.ndim != 3 or image.shape[-1] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"an image must be uint8 [h w 3]; got {image.dtype} {list(image.shape)}"
        )
    for name, label in labels.items():
        if np.shape(label) != image.shape[:2]:
            raise ValueError(
                f"{name} {list(np.shape(label))} does not cover the image"
                f" {list(image.shape[:2])}"
            )
