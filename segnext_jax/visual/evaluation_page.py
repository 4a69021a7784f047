"""A page about an evaluation: one HTML file that needs nothing else."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from segnext_jax.visual.overlay import Palette
from segnext_jax.visual.page import facts, heading, page
from segnext_jax.visual.score_sections import (
    STYLE,
    Comparison,
    class_section,
    comparison_section,
    confusion_section,
    score_tiles,
)
from segnext_jax.visual.tables import count_of, percent


def evaluation_page(
    report: Mapping[str, Any], palette: Palette, worst: Sequence[Comparison]
) -> str:
    """Returns HTML: scores, classes, confusion, the worst images, and how it was done.

    Args:
      report: what eval.py writes into metrics.json.
      palette: RGB colours 0..255, one for each class.
      worst: images to show, the worst first.
    """
    data, classes = report["data"], report["classes"]
    counts = np.array(report["confusion"])
    body = [
        heading(f"Evaluation on {data['source']}", f"{data['root']}, {data['split']}"),
        score_tiles(headline(report)),
        f"<p class=note>{escape(_explanation(report))}</p>",
        class_section(list(classes), palette, class_columns(report)),
        confusion_section(counts, list(classes)),
    ]
    if worst:
        note = "Those with the lowest mIoU of their own, the worst first."
        body.append(comparison_section("Worst images", note, worst, palette))
    body += [
        "<h2>How it was computed</h2>",
        facts(_circumstances(report)),
    ]
    return page(f"Evaluation on {data['source']}", body, STYLE)


def class_columns(report: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Scores of the classes by their headings, [c]; NaN where there is none."""
    keys = {
        "IoU": "iou",
        "accuracy": "accuracy",
        "Dice": "dice",
        "boundary IoU": "boundary_iou",
        "pixels": "share",
    }
    rows = report["classes"].values()
    return {
        column: np.array([row[key] for row in rows], float)
        for column, key in keys.items()
    }


def headline(report: Mapping[str, Any]) -> dict[str, str]:
    """The scores of all classes together, in words."""
    names = {
        "mIoU": "miou",
        "pixel accuracy": "accuracy",
        "mean accuracy": "mean_accuracy",
        "mean Dice": "mean_dice",
        "boundary IoU": "mean_boundary_iou",
    }
    kappa = report["kappa"]
    return {
        **{name: f"{percent(report[key])} %" for name, key in names.items()},
        "kappa": "–" if kappa is None else f"{kappa:.4f}",
    }


def describe_draws(draws: Mapping[str, Any]) -> str:
    """Mean and deviation of the mIoU over draws of NMF bases, in words."""
    spread = "" if draws["std"] is None else f" ± {percent(draws['std'])}"
    number = count_of(len(draws["miou"]), "draw")
    return f"{number} of random NMF bases: mIoU {percent(draws['mean'])}{spread} %"


def _explanation(report: Mapping[str, Any]) -> str:
    low, high = map(percent, report["miou_interval"])
    text = (
        f"{report['num_images']:,} images. 95 % interval of the mIoU over images"
        f" (bootstrap): {low} % to {high} %."
    )
    if draws := report["nmf_draws"]:
        text += (
            f" Over {describe_draws(draws)}; the scores above are with the fixed ones."
        )
    return text


def _circumstances(report: Mapping[str, Any]) -> dict[str, str]:
    protocol = report["protocol"] or "of the checkpoint's config"
    if report["overrides"]:
        protocol += f", but for {', '.join(report['overrides'])}"
    settings = {key: json.dumps(value) for key, value in report["eval"].items()}
    return {
        "checkpoint": f"{report['checkpoint']}, step {report['step']}",
        "protocol": protocol,
        **{f"eval.{key}": value for key, value in settings.items()},
        **report["environment"],
    }
