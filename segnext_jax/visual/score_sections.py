"""What the pages of an evaluation and of a run say of a segmentation: HTML sections."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from segnext_jax.visual.confusion import draw_confusion
from segnext_jax.visual.examples import Example, draw_label
from segnext_jax.visual.overlay import Palette, differences
from segnext_jax.visual.page import embed, hex_color, picture, swatch
from segnext_jax.visual.tables import percent


class Comparison(NamedTuple):
    """An image with what it shows and what was predicted."""

    image: np.ndarray  # uint8 [h w 3] RGB
    truth: np.ndarray  # integer [h w] train ids, 255 = ignored
    pred: np.ndarray  # integer [h w] train ids
    caption: str = ""


def score_tiles(scores: Mapping[str, str]) -> str:
    """The scores in large letters, texts by their names."""
    tiles = (
        f"<div>{escape(name)}<b>{escape(value)}</b></div>"
        for name, value in scores.items()
    )
    return f"<div class=scores>{''.join(tiles)}</div>"


def class_section(
    names: Sequence[str], palette: Palette, columns: Mapping[str, np.ndarray]
) -> str:
    """The table of classes; the first column is drawn as bars, too.

    Args:
      names: class names.
      palette: RGB colours 0..255, one for each name.
      columns: by their headings, float [c] fractions 0..1; NaN is shown as "–".
    """
    head, *rest = columns
    rows = []
    for i, (name, color) in enumerate(zip(names, palette, strict=True)):
        value = columns[head][i]
        width = 0.0 if np.isnan(value) else 100 * value
        rows.append(
            f"<tr><th>{swatch(color)}{escape(name)}<td class=bar>"
            f"<b style='width:{width:.2f}%;background:{hex_color(color)}'></b>"
            f"<span>{percent(value)}</span>"
            + "".join(f"<td>{percent(columns[column][i])}" for column in rest)
        )
    heads = "".join(f"<td>{escape(column)} %" for column in rest)
    return (
        "<h2>Classes</h2><div class=scroll><table><tr><th>class"
        f"<td class=text>{escape(head)} %{heads}{''.join(rows)}</table></div>"
    )


def confusion_section(counts: np.ndarray, names: Sequence[str]) -> str:
    """The confusion matrix [c c], rows are labels, as a picture."""
    matrix = embed(draw_confusion(counts, names), "image/png")
    # Below this width, in pixels, it is scrolled: its letters would be too small.
    legible = min(100 + 36 * len(names), 1600)
    return (
        "<h2>Confusion</h2><p class=note>Of every class's pixels, the percentage"
        " predicted as each class. Grey rows have no pixel.</p>"
        f"<div class=scroll><div class=matrix style='min-width:{legible}px'>{matrix}"
        "</div></div>"
    )


def comparison_section(
    title: str, note: str, comparisons: Sequence[Comparison], palette: Palette
) -> str:
    """Image, truth, prediction and differences of some images, side by side."""
    figures = "".join(
        f"<figure>{''.join(map(picture, _pictures(each, palette)))}"
        f"<figcaption>{escape(each.caption)}</figcaption></figure>"
        for each in comparisons
    )
    return (
        f"<h2>{escape(title)}</h2><p class=note>{escape(note)} Image, truth,"
        " prediction, and what differs in red; void is hatched.</p>"
        f"<div class=comparisons>{figures}</div>"
    )


def _pictures(each: Comparison, palette: Palette) -> list[np.ndarray]:
    truth, pred = (
        draw_label(Example(each.image, label, label.shape), palette)
        for label in (each.truth, each.pred)
    )
    return [each.image, truth, pred, differences(each.image, each.truth, each.pred)]


STYLE = """
.scores { display: flex; flex-wrap: wrap; gap: .8rem 2.4rem; margin: 1.2rem 0 }
.scores div { color: #777 } .scores b { display: block; color: #222;
              font-size: 1.7rem; font-weight: 600; line-height: 1.25 }
.matrix { max-width: 900px } .matrix img { width: 100% }
.comparisons figure { display: grid; grid-template-columns: repeat(4, 1fr); gap: 3px;
                      margin: 0 0 1.2rem }
.comparisons img { width: 100% } .comparisons figcaption { grid-column: 1 / -1 }
@media (max-width: 600px) {
  .comparisons figure { grid-template-columns: repeat(2, 1fr) }
  td.bar { width: 110px } td.bar b { max-width: 50px } }
"""
