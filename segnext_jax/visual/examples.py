"""A page of images beside their labels."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from segnext_jax.visual.legend import INK, Swatch, draw_legend, load_font
from segnext_jax.visual.overlay import IGNORE_LABEL, Palette, hatch, overlay

_GAP = 3  # pixels between an image and its label
_MARGIN = 16  # around a pair
_ASPECT = 1.5  # of the page, width to height, as near as whole columns allow
_PAPER = (245, 245, 245)  # of padding
_GREY = (120, 120, 120)


class Example(NamedTuple):
    """One image with its label."""

    image: np.ndarray  # uint8 [h w 3] RGB
    label: np.ndarray  # integer [h w] train ids, 255 = ignored
    size: tuple[int, int]  # height, width of what is not padding, at the top left
    caption: str = ""


def draw_label(example: Example, palette: Palette) -> np.ndarray:
    """Returns the image under the colours of its label, uint8 [h w 3].

    Ignored pixels are faint and hatched, padding is hatched on white.
    """
    marked = overlay(example.image, example.label, palette)
    marked = hatch(marked, np.asarray(example.label) == IGNORE_LABEL)
    is_padding = np.ones(example.label.shape, bool)
    h, w = example.size
    is_padding[:h, :w] = False
    return hatch(marked, is_padding, paper=_PAPER)


def save_examples(
    path: str | os.PathLike[str],
    examples: Sequence[Example],
    names: Sequence[str],
    palette: Palette,
    *,
    title: str,
    max_side: int = 0,
) -> None:
    """Writes every image beside its label, with a legend of the classes that occur.

    Args:
      path: PNG file to write; its folder must exist.
      examples: images of one size.
      names: class names.
      palette: RGB colours 0..255, one for each name.
      title: line at the top.
      max_side: images are shrunk until no side is longer, in pixels; 0: never.

    Raises ValueError if there is no example, or if their sizes differ.
    """
    shapes = {example.image.shape for example in examples}
    if len(shapes) != 1:
        raise ValueError(f"a mosaic needs images of one size; got {sorted(shapes)}")
    cells = [_draw_cell(example, palette, max_side) for example in examples]
    columns = _num_columns(len(cells), cells[0].size)
    rows = -(-len(cells) // columns)
    cell_width, cell_height = cells[0].size
    width = columns * (cell_width + _MARGIN) + _MARGIN
    font, size = load_font(width)
    head, caption = round(2.2 * size), round(1.6 * size)
    legend = _draw_legend(examples, names, palette, width)
    step = cell_height + caption + _MARGIN // 2
    page = Image.new("RGB", (width, head + rows * step + legend.height), "white")
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, head // 2), title, INK, font, anchor="lm")
    for number, (example, cell) in enumerate(zip(examples, cells, strict=True)):
        row, column = divmod(number, columns)
        x, y = _MARGIN + column * (cell_width + _MARGIN), head + row * step
        page.paste(cell, (x, y))
        middle = y + cell_height + caption // 2
        draw.text((x, middle), example.caption, _GREY, font, anchor="lm")
    page.paste(legend, (0, page.height - legend.height))
    page.save(path, format="PNG")


def _draw_cell(example: Example, palette: Palette, max_side: int) -> Image.Image:
    sides = [
        Image.fromarray(side) for side in (example.image, draw_label(example, palette))
    ]
    w, h = sides[0].size
    if max_side and max(w, h) > max_side:
        scale = max_side / max(w, h)
        w, h = max(1, round(w * scale)), max(1, round(h * scale))
        sides = [side.resize((w, h), Image.Resampling.LANCZOS) for side in sides]
    cell = Image.new("RGB", (2 * w + _GAP, h), "white")
    cell.paste(sides[0], (0, 0))
    cell.paste(sides[1], (w + _GAP, 0))
    return cell


def _num_columns(count: int, cell_size: tuple[int, int]) -> int:
    def distance(columns: int) -> float:
        rows = -(-count // columns)
        aspect = columns * cell_size[0] / (rows * cell_size[1])
        empty = columns * rows - count
        return abs(np.log(aspect / _ASPECT)) + 0.3 * empty

    return min(range(1, count + 1), key=distance)


def _draw_legend(examples, names, palette: Palette, width: int) -> Image.Image:
    present = np.unique(np.concatenate([np.unique(e.label) for e in examples]))
    entries: list[tuple[str, Swatch]] = [
        (names[i], palette[i]) for i in present if i != IGNORE_LABEL
    ]
    blank = np.full((64, 64, 3), 128, np.uint8)
    everywhere = np.ones((64, 64), bool)
    if IGNORE_LABEL in present:
        entries.append(("void", hatch(blank, everywhere)))
    if any(tuple(e.size) != e.label.shape for e in examples):
        entries.append(("padding", hatch(blank, everywhere, paper=_PAPER)))
    return draw_legend(entries, width)
