"""Curves of a training run."""

import io
import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

History = Mapping[str, Sequence[tuple[int, float]]]  # tag → (step, value) pairs

_BLUE, _ORANGE, _GREEN = "#1f6fb4", "#e07b18", "#2b9348"
_GREY = "#666666"


def plot_curves(path: str | os.PathLike[str], history: History) -> None:
    """Draws loss with learning rate, gradient norm, and the validation scores.

    Args:
      path: PNG file to write; its folder must exist.
      history: (step, value) pairs by tag: train/loss, train/lr, and of val/miou,
        val/accuracy, val/top1 and val/top5 (fractions 0..1) those of the task. Any may
        be missing; other tags are not drawn.
    """
    figure = Figure(figsize=(10, 3.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    training, validation = figure.subplots(1, 2)
    _plot_training(training, history)
    _plot_validation(validation, history)
    figure.savefig(path, format="png")


def draw_curves(history: History) -> list[bytes]:
    """Draws the two halves of `plot_curves` each as an SVG, for narrow pages."""
    files = []
    for plot in (_plot_training, _plot_validation):
        figure = Figure(figsize=(5.6, 3.8), layout="constrained")
        FigureCanvasAgg(figure)
        plot(figure.subplots(), history)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
        files.append(file.getvalue())
    return files


def _plot_training(axes: Axes, history: History) -> None:
    _style(axes, "Training", "loss (cross-entropy)")
    lines = []
    steps, loss = _series(history, "train/loss")
    if steps.size:
        smooth = _smooth(loss)
        if steps.size > 20:
            axes.plot(steps, loss, color=_BLUE, alpha=0.25, linewidth=1)
        lines += _curve(axes, steps, smooth, _BLUE, "loss")
        axes.set_ylim(bottom=0)
    else:
        _say(axes, "no training step logged yet")
    steps, rate = _series(history, "train/lr")
    if steps.size:
        right = axes.twinx()
        right.set_ylabel("learning rate", color=_GREY)
        right.tick_params(colors=_GREY)
        right.yaxis.set_major_formatter(StrMethodFormatter("{x:.1e}"))
        right.margins(y=0.2)  # keeps its peak clear of the first losses
        right.spines[["top", "left"]].set_visible(False)
        lines += _curve(right, steps, rate, _ORANGE, "learning rate")
        right.set_ylim(bottom=0)
    if lines:
        axes.set_xlim(left=0)
        _legend(axes, lines)


def _plot_validation(axes: Axes, history: History) -> None:
    _style(axes, "Validation", "score (%)")
    lines = []
    for tag, name, color in (
        ("val/miou", "mIoU", _GREEN),
        ("val/accuracy", "pixel accuracy", _BLUE),
        ("val/top1", "top-1", _GREEN),
        ("val/top5", "top-5", _BLUE),
    ):
        steps, score = _series(history, tag)
        if steps.size:
            label = f"{name}, last {100 * score[-1]:.1f} %"
            lines += _curve(axes, steps, 100 * score, color, label)
    if lines:
        axes.set_xlim(left=0)
        axes.set_ylim(0, 100)
        _legend(axes, lines)
    else:
        _say(axes, "no evaluation yet")


def _series(history: History, tag: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a tag, in order of the steps; empty if it is missing."""
    pairs = np.array(sorted(history[tag]) if tag in history else [], float)
    steps, values = pairs.reshape(-1, 2).T
    return steps, values


def _smooth(values: np.ndarray) -> np.ndarray:
    """Running mean over a fiftieth of the run, of fewer values at its ends."""
    window = np.ones(2 * (len(values) // 100) + 1)
    counts = np.convolve(np.ones(len(values)), window, "same")
    return np.convolve(values, window, "same") / counts


def _curve(axes: Axes, steps, values, color: str, label: str) -> list[Line2D]:
    # A short curve gets markers: one point would be invisible as a line.
    marker = "o" if len(steps) <= 20 else ""
    return axes.plot(
        steps, values, color=color, label=label, marker=marker, markersize=4
    )


def _style(axes: Axes, title: str, ylabel: str) -> None:
    axes.set_title(title, loc="left", fontweight="bold", pad=24)  # room for a legend
    axes.set_xlabel("step")
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _legend(axes: Axes, lines: list[Line2D]) -> None:
    # Above the axes, where it cannot hide a curve.
    axes.legend(
        handles=lines,
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.01),
        borderaxespad=0.0,
        ncols=2,
        fontsize=9,
    )


def _say(axes: Axes, text: str) -> None:
    axes.text(
        0.5, 0.5, text, color=_GREY, ha="center", va="center", transform=axes.transAxes
    )
    axes.set_axis_off()
