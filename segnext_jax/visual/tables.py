"""Scores by class as text."""

from collections.abc import Sequence

import numpy as np

_MISSING = "–"


def per_class_table(
    names: Sequence[str],
    iou: Sequence[float] | np.ndarray,
    accuracy: Sequence[float] | np.ndarray,
    share: Sequence[float] | np.ndarray,
) -> str:
    """Aligns the scores of the classes, in percent, above their mean.

    Args:
      names: class names.
      iou, accuracy: [c] fractions 0..1 by class; NaN (no such pixels) is shown as "–"
        and left out of the mean.
      share: [c] fraction of the labelled pixels that belong to the class.

    Returns:
      Lines of text, without a line break at the end.

    Raises ValueError if the columns are not equally long.
    """
    columns = [np.asarray(column, float) for column in (iou, accuracy, share)]
    lengths = [len(names), *(len(column) for column in columns)]
    if len(set(lengths)) != 1:
        raise ValueError(
            "names, iou, accuracy and share must be equally long; got"
            f" {', '.join(map(str, lengths))}"
        )
    rows = [("class", "IoU %", "accuracy %", "pixels %")]
    for name, *values in zip(names, *columns, strict=True):
        rows.append((name, *(_percent(value) for value in values)))
    rows.append(("mean", _percent(_mean(columns[0])), _percent(_mean(columns[1])), ""))
    header, *body, mean = align(rows)
    rule = "-" * len(header)
    return "\n".join([header, rule, *body, rule, mean])


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns a line of text a row: the first column to the left, others to the right.

    Raises ValueError for rows that are not equally long.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [
                cell.rjust(width)
                for cell, width in zip(row[1:], widths[1:], strict=True)
            ]
        ).rstrip()
        for row in rows
    ]


def count_of(number: int, noun: str) -> str:
    """Writes "1 warning", "1,200 warnings"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _percent(value: float) -> str:
    return _MISSING if np.isnan(value) else f"{100 * value:.2f}"


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
