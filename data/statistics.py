"""What a dataset holds, and what is wrong with it: sums over checks of its records."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from data import transforms
from data.decode import (
    UnreadableError,
    decode_image,
    decode_train_ids,
    require_same_size,
)
from data.parallel import ordered_map
from data.sources import Source

Size = tuple[int, int]  # height, width
_Result = TypeVar("_Result")

UNREADABLE, ILLEGAL_LABEL = "unreadable", "illegal label"
SIZES_DIFFER, VOID_LABEL = "sizes differ", "void label"

_MAX_WEIGHT = 10.0


class Problem(NamedTuple):
    """Something that stops training, or makes a record useless; names the file."""

    kind: str
    message: str


class RecordCheck(NamedTuple):
    """One record: whatever its problems let be known, else None."""

    problems: list[Problem]
    name: str | None = None
    digest: bytes | None = None  # of the image file's content
    size: Size | None = None  # of the image
    pixels: np.ndarray | None = None  # int64 [c] by class
    num_pixels: int = 0  # of the label, void ones too


@dataclasses.dataclass
class SplitStatistics:
    """Sums over the records of a split; arrays are int64 [c], by train id."""

    num_classes: int
    num_checked: int = 0
    problems: list[Problem] = dataclasses.field(default_factory=list)
    sizes: Counter[Size] = dataclasses.field(default_factory=Counter)
    num_pixels: int = 0  # of all labels, void ones too
    names: dict[bytes, str] = dataclasses.field(default_factory=dict)  # by digest
    repeats: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.pixels = np.zeros(self.num_classes, np.int64)
        self.images = np.zeros(self.num_classes, np.int64)  # that contain the class
        self.image_pixels = np.zeros(self.num_classes, np.int64)  # labelled, in those

    def add(self, check: RecordCheck) -> None:
        self.num_checked += 1
        self.problems += check.problems
        if check.size is not None:
            self.sizes[check.size] += 1
        if check.pixels is not None:
            is_present = check.pixels > 0
            self.pixels += check.pixels
            self.images += is_present
            self.image_pixels += is_present * check.pixels.sum()
            self.num_pixels += check.num_pixels
        if check.name is not None and check.digest is not None:
            first = self.names.setdefault(check.digest, check.name)
            if first != check.name:
                self.repeats.append((first, check.name))


def check_records(source: Source, indices: Iterable[int]) -> Iterator[RecordCheck]:
    """Checks records in parallel; yields in the order of `indices`."""
    return ordered_map(partial(check_record, source), indices)


def check_record(source: Source, index: int) -> RecordCheck:
    """Decodes a record as training does, and finds all that is wrong with it."""
    problems: list[Problem] = []

    def attempt(kind: str, function: Callable[..., _Result], *args) -> _Result | None:
        try:
            return function(*args)
        except (ValueError, OSError) as error:
            if isinstance(error, (UnreadableError, OSError)):
                kind = UNREADABLE
            problems.append(Problem(kind, str(error)))
            return None

    record = attempt(UNREADABLE, source.__getitem__, index)
    if record is None:
        return RecordCheck(problems)
    check = RecordCheck(
        problems, record.name, hashlib.blake2b(record.image, digest_size=16).digest()
    )
    image = attempt(UNREADABLE, decode_image, record.image, record.name)
    label = attempt(ILLEGAL_LABEL, decode_train_ids, record, source.classes)
    if image is not None and label is not None:
        attempt(SIZES_DIFFER, require_same_size, image, label, record)
    if image is not None:
        check = check._replace(size=image.shape[:2])
    if label is not None:
        num_classes = source.classes.num_classes
        counts = np.bincount(label.ravel(), minlength=num_classes)[:num_classes]
        if not counts.any():
            message = f"{record.label_name}: no pixel of any class, only void (255)"
            problems.append(Problem(VOID_LABEL, message))
        check = check._replace(pixels=counts, num_pixels=label.size)
    return check


def median_frequency_weights(
    pixels: np.ndarray, image_pixels: np.ndarray
) -> np.ndarray:
    """Suggests a weight in the loss for every class, float64 [c].

    Median-frequency balancing (Eigen and Fergus 2015, arXiv 1411.4734): the frequency
    of a class is its share of the labelled pixels of the images that contain it, its
    weight the median of all frequencies divided by its own. Weights are limited to
    0.1 … 10, so that a few pixels cannot rule the gradient; a class that never occurs
    has weight 1.

    Args:
      pixels: [c] pixels of the class.
      image_pixels: [c] labelled pixels of the images that contain the class.
    """
    weights = np.ones(len(pixels))
    known = pixels > 0
    if known.any():
        frequencies = pixels[known] / image_pixels[known]
        ratios = np.median(frequencies) / frequencies
        weights[known] = np.clip(ratios, 1 / _MAX_WEIGHT, _MAX_WEIGHT)
    return weights


def sizes_at_least_scale(
    sizes: Iterable[Size], data_config: Any, classes: Sequence[str]
) -> dict[Size, Size]:
    """Returns what becomes of image sizes at the least of the random scales.

    Raises ValueError for values of config.data that make no sense.
    """
    recipe = transforms.CropRecipe.from_config(data_config, classes)
    recipe = dataclasses.replace(
        recipe,
        scale_range=(recipe.scale_range[0],) * 2,
        max_class_ratio=1.0,
        rare_class_probability=0.0,
    )
    scaled = {}
    for size in sizes:
        label = np.broadcast_to(np.uint8(0), size)  # of which only the shape matters
        h, w = transforms.draw_crop(label, recipe, seed=0, k=0).scaled_size.tolist()
        scaled[size] = h, w
    return scaled
