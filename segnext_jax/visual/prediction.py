"""What a prediction holds, for people: legends and shares of its classes."""

from collections.abc import Sequence
from html import escape

import numpy as np

from segnext_jax.visual.legend import draw_legend
from segnext_jax.visual.overlay import Palette


def class_shares(pred: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the share 0..1 of each class in train ids, integer [h w]: float [c]."""
    counts = np.bincount(pred.ravel(), minlength=num_classes)
    return counts / pred.size


def add_legend(
    picture: np.ndarray, ids: Sequence[int], names: Sequence[str], palette: Palette
) -> np.ndarray:
    """Returns the picture, uint8 [h w 3], above the names of some classes.

    Args:
      picture: uint8 [h w 3] RGB.
      ids: the classes to name.
      names: of all classes.
      palette: their colours, RGB 0..255.
    """
    entries = [(names[i], palette[i]) for i in ids]
    legend = draw_legend(entries, picture.shape[1])
    return np.concatenate([picture, np.asarray(legend)])


def shares_table(shares: np.ndarray, names: Sequence[str], palette: Palette) -> str:
    """Returns the classes that occur, largest first, with bars: an HTML table.

    Args:
      shares: float [c], 0..1.
      names, palette: of all classes; colours are RGB 0..255.
    """
    rows = []
    for i in np.argsort(-shares, kind="stable"):
        if shares[i] == 0:
            break
        colour = "#" + bytes(palette[i]).hex()
        width = 100 * shares[i] / shares.max()
        rows.append(
            f'<tr><td><i style="background:{colour}"></i>{escape(names[i])}</td>'
            f"<td>{100 * shares[i]:.2f} %</td>"
            f'<td><b style="width:{width:.1f}%;background:{colour}"></b></td></tr>'
        )
    return f'<table class="shares">{"".join(rows)}</table>'


# Of the table; `.shares` is its class.
SHARES_STYLE = """
.shares { width: 100%; border-collapse: collapse; font-size: 15px }
.shares, .shares tr { border: 0 !important }
.shares td { padding: .25rem .6rem .25rem 0; border: 0; white-space: nowrap }
.shares td:nth-child(2) { text-align: right; font-variant-numeric: tabular-nums }
.shares td:last-child { width: 50%; padding-right: 0 }
.shares i { display: inline-block; width: 1.2em; height: .9em; margin-right: .5em;
            border: 1px solid #0004; vertical-align: -1px }
.shares b { display: block; height: .7em; min-width: 1px; border-radius: 2px }
"""
