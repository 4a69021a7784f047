"""Datasets that TensorFlow Datasets (TFDS) has prepared, in random access."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from data.classes import ClassTable
from data.sources.base import Record, require_files

# Functions import TFDS: it takes seconds, and sources of files do without.

_FORMAT = "array_record"  # of the two that TFDS writes with random access, the faster


class Prepared:
    """One split of a dataset below `root`, a data_dir of TFDS.

    Args:
      name: "imagenet2012", or "cityscapes/semantic_segmentation" with its config.
      split: one that the dataset has, or a part such as "train[:1%]".
      encoded: features that are to stay as they are in the file, bytes.
      downloads: files, and where from, that TFDS cannot download; "" if it can.

    Raises FileNotFoundError if the data is not prepared or not complete, ValueError for
    a split that it does not have, or if it was prepared without random access.
    """

    def __init__(
        self,
        name: str,
        root: str,
        split: str,
        *,
        encoded: Sequence[str],
        downloads: str,
    ) -> None:
        import tensorflow_datasets as tfds

        folder = _newest_version(name, root, downloads)
        # From the folder, not by the name: the version need not be the installed one's.
        builder = tfds.builder_from_directory(folder)
        if _FORMAT not in {x.value for x in builder.info.available_file_formats()}:
            raise ValueError(
                f"{folder} is in the format {builder.info.file_format.value!r}, which"
                f" has no random access. Choose another config.data.root and"
                f" {_how_to_prepare(name, 'that root', downloads)}"
            )
        self.features = builder.info.features
        self._place = f"{name} {split}"
        try:
            self._examples = builder.as_data_source(
                split,
                decoders={key: tfds.decode.SkipDecoding() for key in encoded},
                file_format=_FORMAT,
            )
        except ValueError as error:
            raise ValueError(f"{folder} has no split {split!r}: {error}") from None
        files = builder.info.splits[split].file_instructions
        require_files(
            [str(file.filename) for file in files],
            "record",
            f"Delete {folder}, then {_how_to_prepare(name, root, downloads)}",
        )

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> tuple[str, dict[str, Any]]:
        """Returns where the example is, for messages, and its features."""
        place = f"{self._place}[{index}]"
        try:
            return place, self._examples[index]
        except RuntimeError as error:  # what array_record knows
            raise OSError(f"{place}: cannot be read ({error})") from None


class PreparedPairs:
    """A source of the images and label images of a prepared dataset.

    A subclass names the dataset and its features, and what classes its labels hold.
    Raises as `Prepared` does.
    """

    classes: ClassTable
    dataset: str
    image_feature: str
    label_feature: str
    name_feature: str = ""  # a text that tells the image
    downloads: str = ""  # what TFDS cannot download

    def __init__(self, root: str, split: str) -> None:
        self._prepared = Prepared(
            self.dataset,
            root,
            split,
            encoded=(self.image_feature, self.label_feature),
            downloads=self.downloads,
        )

    def __len__(self) -> int:
        return len(self._prepared)

    def __getitem__(self, index: int) -> Record:
        name, example = self._prepared[index]
        if self.name_feature:
            name = f"{name} {example[self.name_feature].decode()}"
        image, label = self.image_feature, self.label_feature
        return Record(
            f"{name} {image}", example[image], example[label], f"{name} {label}"
        )


def rename_split(split: str, names: Mapping[str, str]) -> str:
    """Writes "val[:10%]" as "validation[:10%]", given {"val": "validation"}."""
    name, bracket, part = split.partition("[")
    return names.get(name, name) + bracket + part


def _newest_version(name: str, root: str, downloads: str) -> str:
    import tensorflow_datasets as tfds

    folder = os.path.join(root, name)
    names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    versions = [
        version
        for version in (version.rstrip("/") for version in names)
        if tfds.core.Version.is_valid(version)
        and tf.io.gfile.exists(os.path.join(folder, version, "dataset_info.json"))
    ]
    if not versions:
        raise FileNotFoundError(
            f"{folder} holds no prepared {name}. Correct config.data.root = {root!r},"
            f" or {_how_to_prepare(name, root, downloads)}"
        )
    return os.path.join(folder, max(versions, key=tfds.core.Version))


def _how_to_prepare(name: str, root: str, downloads: str) -> str:
    # Not `tfds build`: that script of TFDS 4.9.10 does not start without apache-beam.
    program = (
        f"import tensorflow_datasets as tfds; tfds.builder('{name}',"
        f" data_dir='{root}', file_format='{_FORMAT}').download_and_prepare()"
    )
    manual = os.path.join(root, "downloads", "manual")
    put = f"put {downloads} into {manual} and " if downloads else ""
    return f'{put}run once: python -c "{program}"'
