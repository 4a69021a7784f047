"""A dataset converted once for fast reading: shards of ArrayRecord.

Written by `python -m tools.make_shards`, read from a disk or from gs://:

    <root>/dataset.json                            classes, and records of every shard
    <root>/<split>-00000-of-00012.array_record     …

A record is a tf.train.Example of the two names, the image as `data/tiles.py` encodes
it, and the label as a PNG of train ids. Records keep the order of the source that was
converted, so training sees the very same crops.
"""

import dataclasses
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordWriter

from data.classes import ClassTable, train_id_table
from data.sources.base import Record, read_text, require_files

_INDEX = "dataset.json"


@dataclasses.dataclass(frozen=True)
class _File:
    """One shard, as ArrayRecordDataSource wants to be told: it need not open it."""

    filename: str
    take: int
    skip: int = 0

    @property
    def examples_in_shard(self) -> int:
        return self.take


class Shards:
    """One split of a converted dataset.

    Raises FileNotFoundError if `root` holds none or if shards are missing, ValueError
    for a split that was not converted.
    """

    def __init__(self, root: str, split: str) -> None:
        index = _require_index(root)
        if split not in index["splits"]:
            raise ValueError(
                f"{root} has no split {split!r}, only {', '.join(index['splits'])}"
            )
        counts = index["splits"][split]
        paths = [_path(root, split, i, len(counts)) for i in range(len(counts))]
        require_files(paths, "shard", f"Copy them again, or convert {split!r} again.")
        self.classes = read_classes(root)
        files = [_File(*file) for file in zip(paths, counts, strict=True)]
        self._examples = ArrayRecordDataSource(files)
        self._place = os.path.join(root, split)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Record:
        try:
            data = self._examples[index]
        except RuntimeError as error:  # what array_record knows
            raise OSError(f"{self._place}[{index}]: cannot be read ({error})") from None
        values = tf.train.Example.FromString(data).features.feature
        name, image, label, label_name = (
            values[field].bytes_list.value[0] for field in Record._fields
        )
        return Record(name.decode(), image, label, label_name.decode())


def read_classes(root: str) -> ClassTable:
    """Returns the classes of a converted dataset; raises as `Shards` does."""
    index = _require_index(root)
    return train_id_table(
        index["classes"], [tuple(colour) for colour in index["palette"]]
    )


def write_split(
    records: Iterable[Record],
    classes: ClassTable,
    root: str,
    split: str,
    *,
    num_records: int,
    num_shards: int,
) -> Iterator[int]:
    """Writes records whose labels are train ids; yields how many are written by now.

    The split counts as converted once the iterator has ended: the index is written
    last, and a conversion that was stopped leaves no split that could be read.

    Raises ValueError, before anything is written, if `root` has this split or other
    classes, and for more shards than records.
    """
    new_index: dict[str, Any] = {
        "classes": list(classes.names),
        "palette": [list(colour) for colour in classes.palette],
        "splits": {},
    }
    index = _read_index(root) or new_index
    if {**new_index, "splits": index["splits"]} != index:
        raise ValueError(f"{root} holds a dataset of other classes: choose another")
    if split in index["splits"]:
        raise ValueError(f"{root} already has the split {split!r}: choose another")
    if not 0 < num_shards <= num_records:
        raise ValueError(f"{num_shards} shards; 1 to {num_records} can be filled")
    tf.io.gfile.makedirs(root)
    remaining = iter(records)
    bounds = [num_records * i // num_shards for i in range(num_shards + 1)]
    for i, (start, end) in enumerate(itertools.pairwise(bounds)):
        # Groups of one, for random access; tiles are compressed.
        path = _path(root, split, i, num_shards)
        writer = ArrayRecordWriter(path, "group_size:1,uncompressed")
        for k in range(start, end):
            writer.write(_serialize(next(remaining)))
            yield k + 1
        writer.close()
    index["splits"][split] = [end - start for start, end in itertools.pairwise(bounds)]
    with tf.io.gfile.GFile(os.path.join(root, _INDEX), "w") as file:
        file.write(json.dumps(index, indent=1))


def _serialize(record: Record) -> bytes:
    features = {
        field: tf.train.Feature(
            bytes_list=tf.train.BytesList(
                value=[x.encode() if isinstance(x, str) else x]
            )
        )
        for field, x in record._asdict().items()
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString()


def _require_index(root: str) -> dict[str, Any]:
    index = _read_index(root)
    if index is None:
        raise FileNotFoundError(
            f"there is no {os.path.join(root, _INDEX)}. Correct config.data.root ="
            f" {root!r}, or convert a dataset to it with tools/make_shards.py"
        )
    return index


def _read_index(root: str) -> dict[str, Any] | None:
    path = os.path.join(root, _INDEX)
    return json.loads(read_text(path)) if tf.io.gfile.exists(path) else None


def _path(root: str, split: str, i: int, count: int) -> str:
    return os.path.join(root, f"{split}-{i:05}-of-{count:05}.array_record")
