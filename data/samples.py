"""A few images of what a person names or of a data set, to compare programs on."""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from data.decode import decode_record
from data.inputs import find_inputs
from data.photos import read_photo
from data.sources import Source


class Sample(NamedTuple):
    """An image, uint8 [h w 3] RGB, and its train ids, uint8 [h w], if it has some."""

    name: str
    image: np.ndarray
    label: np.ndarray | None


def photo_samples(
    arguments: Sequence[str], count: int, size: tuple[int, int] | None
) -> Iterator[Sample]:
    """The first images of files, folders, globs and lists, scaled to `size` if given.

    Raises FileNotFoundError at once for an argument without images, and UnreadableError
    while iterating.
    """
    inputs = [i for i in find_inputs(arguments, output=os.devnull) if not i.is_video]
    if not inputs:
        raise FileNotFoundError(f"there is no image in {' '.join(arguments)}")
    samples = (Sample(i.path, read_photo(i.path), None) for i in inputs[:count])
    return (_fit(sample, size) for sample in samples)


def labelled_samples(
    source: Source, count: int, size: tuple[int, int] | None
) -> Iterator[Sample]:
    """Images at equal distances in a source, scaled to `size` if given.

    Raises as `decode_record` while iterating.
    """
    indices = np.linspace(0, len(source) - 1, min(count, len(source))).round()
    for index in indices.astype(int):
        record = source[int(index)]
        image, label = decode_record(record, source.classes)
        yield _fit(Sample(record.name, image, label), size)


def _fit(sample: Sample, size: tuple[int, int] | None) -> Sample:
    name, image, label = sample
    if size is None or image.shape[:2] == size:
        return sample
    image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)
    if label is not None:
        label = cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST)
    return Sample(name, image, label)
