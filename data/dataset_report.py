"""What was found in a dataset, as data: for people, and for report.json."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from data.classes import ClassTable
from data.statistics import (
    Problem,
    SplitStatistics,
    median_frequency_weights,
    sizes_at_least_scale,
)

_RULE = (
    "Median-frequency balancing (Eigen and Fergus 2015), limited to 0.1-10: the median"
    " of the frequencies of all classes, divided by the class's own. The frequency of a"
    " class is its share of the labelled pixels of the images that contain it. A class"
    " that does not occur has weight 1."
)

Splits = Mapping[str, SplitStatistics]
Warnings = Iterator[tuple[str, Problem]]  # with the split


def make_report(
    data_config: Any, classes: ClassTable, num_images: Mapping[str, int], splits: Splits
) -> dict[str, Any]:
    """Returns what JSON can hold: problems, warnings, splits, classes, their weights.

    Args:
      data_config: config.data.
      classes: of all splits.
      num_images: of a split, by its name.
      splits: what was found in the images that were checked, by split.

    Raises ValueError for values of config.data that make no sense.
    """
    # Weights are for training; without its split, for whatever was looked at.
    split = data_config.train_split
    train = splits[split if split in splits else next(iter(splits))]
    suggested = median_frequency_weights(train.pixels, train.image_pixels)
    weights = tuple(float(f"{weight:.3g}") for weight in suggested)
    problems = [(s, p) for s, part in splits.items() for p in part.problems]
    warnings = itertools.chain(
        _missing_classes(classes, splits),
        _padded_images(data_config, classes, splits),
        _duplicates(splits),
    )
    return {
        "source": data_config.source,
        "root": data_config.root,
        "problems": [_row(split, problem) for split, problem in problems],
        "warnings": [_row(split, warning) for split, warning in warnings],
        "splits": {
            split: {
                "images": num_images[split],
                "checked": part.num_checked,
                "problems": len(part.problems),
                "void": 1 - _share(part.pixels.sum(), part.num_pixels, empty=1.0),
                "sizes": [
                    {"height": h, "width": w, "images": count}
                    for (h, w), count in part.sizes.most_common()
                ],
            }
            for split, part in splits.items()
        },
        "classes": [
            {
                "train_id": i,
                "name": name,
                "color": list(classes.palette[i]),
                "weight": weights[i],
                "splits": {
                    split: {
                        "pixels": int(part.pixels[i]),
                        "share": _share(part.pixels[i], part.pixels.sum()),
                        "images": int(part.images[i]),
                    }
                    for split, part in splits.items()
                },
            }
            for i, name in enumerate(classes.names)
        ],
        "flag": f"--config.loss.class_weights='{weights}'",
        "rule": _RULE,
    }


def _row(split: str, problem: Problem) -> dict[str, str]:
    return {"split": split, **problem._asdict()}


def _share(part: int, whole: int, empty: float = 0.0) -> float:
    return float(part / whole) if whole else empty


def _missing_classes(classes: ClassTable, splits: Splits) -> Warnings:
    for split, part in splits.items():
        missing = [n for n, k in zip(classes.names, part.images, strict=True) if not k]
        if missing and part.num_pixels:
            message = f"in no image that was checked: {', '.join(missing)}"
            yield split, Problem("classes that do not occur", message)


def _padded_images(data_config: Any, classes: ClassTable, splits: Splits) -> Warnings:
    split = data_config.train_split  # the others are not cropped
    if split not in splits:
        return
    sizes = splits[split].sizes
    scaled = sizes_at_least_scale(sizes, data_config, classes.names)
    crop = tuple(data_config.crop_size)
    small = {
        size: to
        for size, to in scaled.items()
        if any(length < side for length, side in zip(to, crop, strict=True))
    }
    if small:
        size = min(small, key=lambda size: np.prod(small[size]))
        (h, w), (scaled_h, scaled_w) = size, small[size]
        yield (
            split,
            Problem(
                "small images",
                f"{sum(sizes[size] for size in small)} of {sizes.total()} are smaller"
                f" than the crop of {crop[0]} × {crop[1]} at the least scale,"
                f" {data_config.scale_range[0]:g}: e.g. {h} × {w} becomes"
                f" {scaled_h} × {scaled_w}, and the rest of the crop is padding",
            ),
        )


def _duplicates(splits: Splits) -> Warnings:
    """Images of equal bytes; in two splits they make the score of one worthless."""
    for split, part in splits.items():
        if part.repeats:
            pairs = [f"{first} = {second}" for first, second in part.repeats]
            message = f"{len(pairs)} images occur again: {_first(pairs)}"
            yield split, Problem("duplicates", message)
    for (a, in_a), (b, in_b) in itertools.combinations(splits.items(), 2):
        # In order, which that of a set is not.
        if common := [digest for digest in in_b.names if digest in in_a.names]:
            pairs = [f"{in_b.names[x]} = {in_a.names[x]}" for x in common]
            message = f"{len(pairs)} images are also in {a}: {_first(pairs)}"
            yield b, Problem("leakage", message)


def _first(items: Sequence[str], count: int = 3) -> str:
    return ", ".join(items[:count]) + ", …" * (len(items) > count)
