"""The confusion matrix as a picture."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

_MOST_WITH_VALUES = 40  # classes; in more the numbers would not fit their cells
_SMALLEST = 0.01  # of a row; less is written into no cell
_INK, _GREY, _PAPER = "#282828", "#666666", "#e4e4e4"


def draw_confusion(counts: np.ndarray, names: Sequence[str]) -> bytes:
    """Draws which share of every class's pixels is predicted as which class.

    Args:
      counts: [c c] pixels, rows are labels, columns predictions.
      names: of the c classes.

    Returns:
      A PNG; rows without a pixel are grey.

    Raises ValueError if names and classes are not equally many.
    """
    num_classes = len(names)
    if np.shape(counts) != (num_classes, num_classes):
        raise ValueError(
            f"{num_classes} class names but a confusion matrix {list(np.shape(counts))}"
        )
    total = np.sum(counts, axis=1, keepdims=True)
    shares = np.divide(
        counts, total, out=np.full(np.shape(counts), np.nan), where=total > 0
    )
    has_values = num_classes <= _MOST_WITH_VALUES
    # Inches of a cell, and points of the letters, that remain legible in a page.
    cell, size = (0.42, 8) if has_values else (0.13, 5.5)
    margin = 0.6 + 0.012 * size * max(map(len, names))
    side = cell * num_classes + margin
    figure = Figure(figsize=(side, side), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_facecolor(_PAPER)
    # The root: errors of one percent are to be seen beside hits of ninety.
    axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1))
    axes.set_xticks(range(num_classes), names, rotation=90, fontsize=size)
    axes.set_yticks(range(num_classes), names, fontsize=size)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.set_xlabel("prediction", color=_GREY, fontsize=size + 1)
    axes.set_ylabel("truth", color=_GREY, fontsize=size + 1)
    axes.xaxis.set_label_position("top")
    axes.spines[:].set_color("#bbbbbb")
    if has_values:
        _write_values(axes, shares)
    else:
        axes.set_xticks(np.arange(num_classes + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(num_classes + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#eeeeee", linewidth=0.3)
        axes.tick_params(which="minor", length=0, top=False, bottom=False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _write_values(axes: Axes, shares: np.ndarray) -> None:
    for (row, column), share in np.ndenumerate(shares):
        if share >= _SMALLEST:
            color = "white" if share > 0.4 else _INK
            text = f"{100 * share:.0f}"
            axes.text(
                column, row, text, ha="center", va="center", color=color, fontsize=8
            )
