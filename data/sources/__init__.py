"""Random-access sources of encoded images and labels."""

import difflib
import os
from typing import Any, Protocol

import tensorflow as tf

from data.classes import ClassTable, parse_classes, train_id_table
from data.sources.ade20k import ADE20K, ADE20KTfds
from data.sources.base import (
    ClassificationSource,
    LabelledImage,
    Record,
    Source,
    read_text,
)
from data.sources.camvid import CamVid
from data.sources.cityscapes import Cityscapes, CityscapesTfds
from data.sources.coco_stuff import COCOStuff
from data.sources.folder import Folder
from data.sources.isaid import ISAID
from data.sources.loveda import LoveDA
from data.sources.pascal_context import PascalContext59, PascalContext60
from data.sources.shards import Shards, read_classes
from data.sources.street_scenes import StreetScenes
from data.sources.voc2012 import VOC2012

__all__ = [
    "SOURCES",
    "ClassificationSource",
    "LabelledImage",
    "Record",
    "Source",
    "load_classes",
    "make_classification_source",
    "make_source",
    "source_classes",
]


class Dataset(Protocol):
    """What opens a split of one dataset, and knows its classes without the data."""

    @property
    def classes(self) -> ClassTable: ...

    def __call__(self, root: str, split: str) -> Source: ...


# What config.data.source may be, aside from "folder" and "shards".
SOURCES: dict[str, Dataset] = {
    "ade20k": ADE20K,
    "ade20k_tfds": ADE20KTfds,
    "camvid": CamVid,
    "cityscapes": Cityscapes,
    "cityscapes_tfds": CityscapesTfds,
    "coco_stuff": COCOStuff,
    "isaid": ISAID,
    "loveda": LoveDA,
    "pascal_context_59": PascalContext59,
    "pascal_context_60": PascalContext60,
    "street_scenes": StreetScenes,
    "voc2012": VOC2012,
}


def make_source(data_config: Any, split: str) -> Source:
    """Opens the split (folder name or list file) that `data_config` describes.

    Raises ValueError for an unknown source, or for classes where the source has its
    own; FileNotFoundError for missing data.
    """
    _check(data_config)
    if data_config.source == "folder":
        return Folder(data_config.root, split, source_classes(data_config))
    if data_config.source == "shards":
        return Shards(data_config.root, split)
    return SOURCES[data_config.source](data_config.root, split)


def source_classes(data_config: Any) -> ClassTable:
    """Returns what the labels of `make_source` hold; needs no images.

    Raises as `make_source` does.
    """
    _check(data_config)
    if data_config.source == "folder":
        return load_classes(data_config.classes, data_config.root)
    if data_config.source == "shards":
        return read_classes(data_config.root)
    return SOURCES[data_config.source].classes


def load_classes(name_or_file: str, root: str = "") -> ClassTable:
    """Returns the classes of a folder: those of a source, by its name, or of a file.

    Labels of a folder with the classes of a source hold train ids, and 255, whatever
    raw ids that source has. A file, below `root` or else as it is named, says itself
    what labels hold: see `parse_classes`.

    Raises FileNotFoundError for an unknown name, ValueError for a malformed file.
    """
    if name_or_file in SOURCES:
        classes = SOURCES[name_or_file].classes
        return train_id_table(classes.names, classes.palette)
    for path in (os.path.join(root, name_or_file), name_or_file):
        if name_or_file and tf.io.gfile.exists(path):
            return parse_classes(read_text(path), path, colour_labels=True)
    raise FileNotFoundError(
        f"config.data.classes = {name_or_file!r} is neither one of"
        f" {', '.join(SOURCES)} nor a class file (lines `name r g b`), below"
        f" config.data.root = {root!r} or elsewhere"
    )


def _check(data_config: Any) -> None:
    name, known = data_config.source, ["folder", "shards", *SOURCES]
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(
            f"config.data.source = {name!r}: {hint}choose one of {', '.join(known)}"
        )
    if data_config.classes and name != "folder":
        raise ValueError(
            f"config.data.classes = {data_config.classes!r}, but source {name!r} has"
            " classes of its own: leave it empty ('')"
        )


def make_classification_source(data_config: Any, split: str) -> ClassificationSource:
    """Opens the split that `data_config` describes, for classification.

    Raises ValueError for an unknown source, FileNotFoundError for missing data.
    """
    if data_config.source != "imagenet":
        raise ValueError(
            f"config.data.source = {data_config.source!r}; for classification there is"
            " imagenet"
        )
    from data.sources.imagenet import ImageNet  # TFDS takes a second to import

    return ImageNet(data_config.root, split)
