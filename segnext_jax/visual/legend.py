"""The legend below pictures: swatches with names."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Swatch = Sequence[int] | np.ndarray  # RGB, or uint8 [h w 3]

INK = (40, 40, 40)
_FRAME = (150, 150, 150)


def load_font(width: int) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, int]:
    """Returns a font for a page of `width` pixels, and its size in pixels."""
    size = int(np.clip(width // 50, 11, 28))
    return ImageFont.load_default(size), size


def draw_legend(entries: Sequence[tuple[str, Swatch]], width: int) -> Image.Image:
    """Returns swatches with names, in columns as wide as the longest name needs.

    Args:
      entries: names with RGB colours 0..255, or patterns, of which a part is shown.
      width: of the legend, in pixels.
    """
    font, size = load_font(width)
    line, margin = round(1.7 * size), round(0.6 * size)
    longest = max(font.getlength(name) for name, _ in entries)
    columns = max(1, int((width - margin) // (longest + 2.6 * size)))
    rows = -(-len(entries) // columns)
    columns = -(-len(entries) // rows)  # no empty column at the right
    legend = Image.new("RGB", (width, rows * line + 2 * margin), "white")
    draw = ImageDraw.Draw(legend)
    for number, (name, swatch) in enumerate(entries):
        column, row = divmod(number, rows)
        x = margin + column * (width - margin) // columns
        y = margin + row * line + (line - size) // 2
        box = (x, y, x + round(1.4 * size), y + size)
        if isinstance(swatch, np.ndarray):
            h, w = box[3] - box[1], box[2] - box[0]
            legend.paste(Image.fromarray(swatch[:h, :w]), box[:2])
            draw.rectangle(box, outline=_FRAME)
        else:
            draw.rectangle(box, fill=tuple(swatch), outline=_FRAME)
        draw.text((x + 2 * size, y + size / 2), name, INK, font, anchor="lm")
    return legend
