"""Scores by class as text."""

from collections.abc import Mapping, Sequence

import numpy as np

_MISSING = "–"


def per_class_table(
    names: Sequence[str],
    iou: Sequence[float] | np.ndarray,
    accuracy: Sequence[float] | np.ndarray,
    share: Sequence[float] | np.ndarray,
    more: Mapping[str, Sequence[float] | np.ndarray] | None = None,
) -> str:
    """Aligns the scores of the classes, in percent, above their mean.

    Args:
      names: class names.
      iou, accuracy: [c] fractions 0..1 by class; NaN (no such pixels) is shown as "–"
        and left out of the mean.
      share: [c] fraction of the labelled pixels that belong to the class.
      more: other scores like these, by their headings.

    Returns:
      Lines of text, without a line break at the end.

    Raises ValueError if the columns are not equally long.
    """
    scores = {"IoU": iou, "accuracy": accuracy, **(more or {})}
    columns = [np.asarray(column, float) for column in (*scores.values(), share)]
    lengths = [len(names), *(len(column) for column in columns)]
    if len(set(lengths)) != 1:
        raise ValueError(
            f"names, {', '.join(scores)} and share must be equally long; got"
            f" {', '.join(map(str, lengths))}"
        )
    rows = [("class", *(f"{heading} %" for heading in (*scores, "pixels")))]
    for name, *values in zip(names, *columns, strict=True):
        rows.append((name, *(percent(value) for value in values)))
    rows.append(("mean", *(percent(_mean(column)) for column in columns[:-1]), ""))
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


def percent(value: float | None) -> str:
    """Writes 0.1234 as "12.34", NaN and None as "–"."""
    return _MISSING if value is None or np.isnan(value) else f"{100 * value:.2f}"


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
