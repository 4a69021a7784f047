"""What a source is, and the parts that sources of image and label files share."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import tensorflow as tf

from data.classes import ClassTable


class Record(NamedTuple):
    """One encoded image with its encoded label; the names are for messages."""

    name: str
    image: bytes
    label: bytes
    label_name: str


class Source(Protocol):
    """Random access to encoded images and labels, in an order that never changes."""

    @property
    def classes(self) -> ClassTable: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...


class FilePairs:
    """A source made of (image path, label path) pairs, local or remote (gs://).

    Raises FileNotFoundError on construction if there is no pair, or if a listed file
    does not exist: `layout` then tells what was expected.
    """

    def __init__(
        self, pairs: Sequence[tuple[str, str]], classes: ClassTable, layout: str
    ) -> None:
        if not pairs:
            raise FileNotFoundError(f"no images found. {layout}")
        for column, kind in enumerate(("image", "label")):
            if missing := _missing(pair[column] for pair in pairs):
                raise FileNotFoundError(
                    f"{len(missing)} of {len(pairs)} {kind} files do not exist:"
                    f" {', '.join(missing[:3])}{', …' * (len(missing) > 3)}. {layout}"
                )
        self.pairs = pairs
        self.classes = classes

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


def list_folder(path: str, layout: str) -> list[str]:
    """Returns the sorted names in a folder. Raises FileNotFoundError without it."""
    if not tf.io.gfile.isdir(path):
        raise FileNotFoundError(f"there is no folder {path}. {layout}")
    # Object stores write the names of folders with a slash.
    return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(path))


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
