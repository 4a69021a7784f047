"""The scores of an evaluation as text and as files."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from segnext_jax.evaluation.bootstrap import miou_interval
from segnext_jax.evaluation.evaluator import ImageCounts, SegmentationEvaluation
from segnext_jax.evaluation.inspection import Inspected
from segnext_jax.evaluation.metrics import divide, iou, mean
from segnext_jax.visual.confusion import draw_confusion
from segnext_jax.visual.evaluation_page import class_columns, evaluation_page, headline
from segnext_jax.visual.overlay import Palette
from segnext_jax.visual.score_sections import Comparison
from segnext_jax.visual.tables import per_class_table, percent


def make_scores(
    evaluation: SegmentationEvaluation,
    boundary: np.ndarray,
    classes: Sequence[str],
    absent: str,
) -> dict[str, Any]:
    """All scores as JSON has them: fractions 0…1, null where nothing is to score.

    Args:
      evaluation: of all images.
      boundary: int64 [2 c], intersection and union of the boundaries.
      classes: names of the c classes.
      absent: what an absent class counts: see `metrics.iou`.
    """
    scores = evaluation.confusion.compute(absent)
    images = evaluation.images
    interval = miou_interval(
        images.intersection, images.labelled, images.predicted, absent=absent
    )
    boundary_iou = divide(*boundary)
    columns = {
        "iou": scores["iou"],
        "accuracy": scores["class_accuracy"],
        "dice": scores["dice"],
        "boundary_iou": boundary_iou,
        "share": scores["share"],
    }
    names = ("miou", "accuracy", "mean_accuracy", "mean_dice", "kappa")
    return {
        "num_images": evaluation.num_images,
        **{name: _number(scores[name]) for name in names},
        "mean_boundary_iou": _number(mean(boundary_iou)),
        "miou_interval": [_number(bound) for bound in interval],
        "classes": {
            name: {key: _number(values[i]) for key, values in columns.items()}
            for i, name in enumerate(classes)
        },
        "confusion": evaluation.confusion.counts.tolist(),
    }


def make_draws(mious: Sequence[float]) -> dict[str, Any] | None:
    """Mean and deviation (n - 1; null for one) of the mIoU of some draws, as JSON.

    None without draws.
    """
    if not mious:
        return None
    spread = np.std(mious, ddof=1) if len(mious) > 1 else np.nan
    return {
        "miou": [_number(miou) for miou in mious],
        "mean": _number(np.mean(mious)),
        "std": _number(spread),
    }


def describe(scores: Mapping[str, Any]) -> str:
    """The table of classes and what `make_scores` says of all of them, as text."""
    classes, columns = scores["classes"], class_columns(scores)
    class_iou, accuracy, share = (
        columns.pop(key) for key in ("IoU", "accuracy", "pixels")
    )
    low, high = map(percent, scores["miou_interval"])
    means = list(headline(scores).items())
    return "\n".join(
        [
            per_class_table(list(classes), class_iou, accuracy, share, columns),
            ", ".join(f"{name} {value}" for name, value in means[2:]),
            f"95 % interval of the mIoU over images (bootstrap): {low} % to {high} %",
        ]
    )


def image_scores(
    images: ImageCounts,
    classes: Sequence[str],
    names: Mapping[int, str],
    sizes: Sequence[Sequence[int]] | np.ndarray,
) -> dict[str, Any]:
    """Scores of every image by itself; a class it neither has nor predicts is null.

    Args:
      images: counts by image and class.
      classes: names of the classes.
      names: of the images, by index.
      sizes: (height, width) of the images, by index.
    """
    ratios = iou(images.intersection, images.labelled, images.predicted)
    accuracy = divide(images.intersection.sum(axis=-1), images.labelled.sum(axis=-1))
    rows = zip(images.index.tolist(), mean(ratios), accuracy, ratios, strict=True)
    return {
        "classes": list(classes),
        "images": [
            {
                "name": names[index],
                "size": [int(side) for side in sizes[index]],
                "miou": _number(miou),
                "accuracy": _number(pixels),
                "iou": [_number(value) for value in ratio],
            }
            for index, miou, pixels, ratio in rows
        ],
    }


def write_report(
    folder: str | os.PathLike[str],
    report: Mapping[str, Any],
    by_image: Mapping[str, Any],
    worst: Sequence[Inspected],
    names: Mapping[int, str],
    palette: Palette,
) -> None:
    """Writes metrics.json, per_image.json, confusion.png and report.html.

    Args:
      folder: made if it is missing.
      report: `make_scores` with how they were computed: see `evaluation_page`.
      by_image: `image_scores`.
      worst: images to show.
      names: of the images, by index.
      palette: RGB colours 0…255 of the classes.
    """
    path = epath.Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    comparisons = [
        Comparison(
            each.image,
            each.label,
            each.pred,
            f"{number}. {names[each.index]}, mIoU {percent(each.miou)} %",
        )
        for number, each in enumerate(worst, start=1)
    ]
    classes = list(report["classes"])
    matrix = draw_confusion(np.array(report["confusion"]), classes)
    (path / "metrics.json").write_text(json.dumps(report, indent=2) + "\n")
    (path / "per_image.json").write_text(json.dumps(by_image) + "\n")
    (path / "confusion.png").write_bytes(matrix)
    html = evaluation_page(report, palette, comparisons)
    (path / "report.html").write_text(html)


def _number(value: float | np.floating | np.ndarray) -> float | None:
    return None if np.isnan(value) else float(value)
