"""What a source is, and the parts that sources of image and label files share."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import tensorflow as tf

from data.classes import ClassTable


class Record(NamedTuple):
    """One encoded image with its encoded label; the names are for messages."""

    name: str
    image: bytes
    label: bytes
    label_name: str


class LabelledImage(NamedTuple):
    """One encoded image with the index of its class; the name is for messages."""

    name: str
    image: bytes
    label: int


_Record = TypeVar("_Record", covariant=True)


class RandomAccess(Protocol[_Record]):
    """Records in an order that never changes."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> _Record: ...


class Source(RandomAccess[Record], Protocol):
    """Encoded images and labels for segmentation."""

    @property
    def classes(self) -> ClassTable: ...


class ClassificationSource(RandomAccess[LabelledImage], Protocol):
    """Encoded images for classification, with the names of the classes."""

    @property
    def classes(self) -> tuple[str, ...]: ...


class FilePairs:
    """A source made of (image path, label path) pairs, local or remote (gs://).

    A subclass says what `classes` its labels hold.

    Raises FileNotFoundError on construction if there is no pair, or if a listed file
    does not exist: `layout` then tells what was expected.
    """

    classes: ClassTable

    def __init__(self, pairs: Sequence[tuple[str, str]], layout: str) -> None:
        if not pairs:
            raise FileNotFoundError(f"no images found. {layout}")
        for column, kind in enumerate(("image", "label")):
            require_files([pair[column] for pair in pairs], kind, layout)
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Record:
        image, label = self.pairs[index]
        return Record(image, read_file(image), read_file(label), label)


def read_file(path: str) -> bytes:
    """Reads a local or remote file. Raises OSError that names it."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        raise OSError(f"{path}: cannot be read ({error.message})") from None


def read_lines(path: str, layout: str) -> list[str]:
    """Reads a UTF-8 text file, of Windows too. Raises FileNotFoundError without it."""
    if not tf.io.gfile.exists(path):
        raise FileNotFoundError(f"there is no list file {path}. {layout}")
    return read_text(path).splitlines()


def read_text(path: str) -> str:
    """Reads a UTF-8 file. Raises ValueError for other encodings, OSError as above."""
    try:
        return read_file(path).decode("utf-8-sig")  # Windows editors write a mark first
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 text ({error}); save it as UTF-8"
        ) from None


def list_folder(path: str, layout: str) -> list[str]:
    """Returns the sorted names in a folder, without hidden files.

    Raises FileNotFoundError, which `layout` ends, without the folder.
    """
    if not tf.io.gfile.isdir(path):
        raise FileNotFoundError(f"there is no folder {path}. {layout}")
    # Object stores write the names of folders with a slash. macOS puts a "._x.png"
    # beside the x.png that it copies.
    names = (name.rstrip("/") for name in tf.io.gfile.listdir(path))
    return sorted(name for name in names if not name.startswith("."))


def pair_files(
    images: str, labels: str, layout: str, *, image_suffix: str, label_suffix: str
) -> list[tuple[str, str]]:
    """Pairs images/x{image_suffix} with labels/x{label_suffix}, sorted by name.

    Raises FileNotFoundError without the folder of images.
    """
    return [
        (
            os.path.join(images, name),
            os.path.join(labels, name.removesuffix(image_suffix) + label_suffix),
        )
        for name in list_folder(images, layout)
        if name.endswith(image_suffix)
    ]


def require_files(paths: Sequence[str], kind: str, hint: str) -> None:
    """Raises FileNotFoundError if files, local or remote, do not exist."""
    if missing := _missing(paths):
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} {kind} files do not exist:"
            f" {', '.join(missing[:3])}{', …' * (len(missing) > 3)}. {hint}"
        )


def _missing(paths: Iterable[str]) -> list[str]:
    # Listing the few folders is one request each; asking for every file is thousands.
    by_folder = defaultdict(list)
    for path in paths:
        by_folder[os.path.dirname(path)].append(path)
    missing = []
    for folder, members in by_folder.items():
        is_folder = tf.io.gfile.isdir(folder)
        names = set(tf.io.gfile.listdir(folder)) if is_folder else set()
        missing += [path for path in members if os.path.basename(path) not in names]
    return missing
