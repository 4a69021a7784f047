"""Random-access sources of encoded images and labels."""

from typing import Any

from data.classes import load_classes
from data.sources.base import ClassificationSource, LabelledImage, Record, Source
from data.sources.cityscapes import Cityscapes
from data.sources.folder import Folder

__all__ = [
    "ClassificationSource",
    "LabelledImage",
    "Record",
    "Source",
    "make_classification_source",
    "make_source",
]


def make_source(data_config: Any, split: str) -> Source:
    """Opens the split (folder name or list file) that `data_config` describes.

    Raises ValueError for an unknown source, FileNotFoundError for missing data.
    """
    kind, root = data_config.source, data_config.root
    if kind == "folder":
        return Folder(root, split, load_classes(data_config.classes))
    if kind not in ("cityscapes", "street_scenes"):
        raise ValueError(
            f"config.data.source = {kind!r}; choose cityscapes, folder or street_scenes"
        )
    if data_config.classes != "cityscapes":
        raise ValueError(
            f"config.data.classes = {data_config.classes!r}, but the labels of source"
            f" {kind!r} hold Cityscapes ids: set it to 'cityscapes'"
        )
    if kind == "cityscapes":
        return Cityscapes(root, split)
    from data.sources.street_scenes import StreetScenes  # draws its data: rarely used

    return StreetScenes(root, split)


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
