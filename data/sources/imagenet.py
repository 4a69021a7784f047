"""ImageNet-1k (ILSVRC 2012) as TensorFlow Datasets prepares it."""

import os

import tensorflow as tf
import tensorflow_datasets as tfds

from data.sources.base import LabelledImage, require_files

_NAME = "imagenet2012"
_FORMAT = "array_record"  # of the two that TFDS writes with random access, the faster


class ImageNet:
    """One split of imagenet2012 below `root`, a data_dir of TFDS.

    `split` is "train", "validation", or a part such as "train[:1%]"; `classes` are the
    synset ids, n01440764 and so on, in the order of the labels.

    Raises FileNotFoundError if the data is not prepared or not complete, ValueError for
    a split that it does not have, or if it was prepared without random access.
    """

    def __init__(self, root: str, split: str) -> None:
        folder = _newest_version(root)
        # From the folder, not by the name: the version need not be the installed one's.
        builder = tfds.builder_from_directory(folder)
        if _FORMAT not in {x.value for x in builder.info.available_file_formats()}:
            raise ValueError(
                f"{folder} is in the format {builder.info.file_format.value!r}, which"
                f" has no random access. Choose another config.data.root and"
                f" {_how_to_prepare('that root')}"
            )
        self.classes = tuple(builder.info.features["label"].names)
        self._split = split
        try:
            self._examples = builder.as_data_source(
                split,
                decoders={"image": tfds.decode.SkipDecoding()},
                file_format=_FORMAT,
            )
        except ValueError as error:
            raise ValueError(f"{folder} has no split {split!r}: {error}") from None
        files = builder.info.splits[split].file_instructions
        paths = [str(file.filename) for file in files]
        require_files(paths, "record", f"Delete {folder}, then {_how_to_prepare(root)}")

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> LabelledImage:
        place = f"{_NAME} {self._split}[{index}]"
        try:
            example = self._examples[index]
        except RuntimeError as error:  # what array_record knows
            raise OSError(f"{place}: cannot be read ({error})") from None
        name = f"{place} {example['file_name'].decode()}"
        return LabelledImage(name, example["image"], int(example["label"]))


def class_names() -> tuple[str, ...]:
    """The 1000 synset ids in the order of the labels; needs no data."""
    return tuple(tfds.builder(_NAME).info.features["label"].names)


def _newest_version(root: str) -> str:
    folder = os.path.join(root, _NAME)
    names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    versions = [
        name
        for name in (name.rstrip("/") for name in names)
        if tfds.core.Version.is_valid(name)
        and tf.io.gfile.exists(os.path.join(folder, name, "dataset_info.json"))
    ]
    if not versions:
        raise FileNotFoundError(
            f"{folder} holds no prepared ImageNet. Correct config.data.root = {root!r},"
            f" or {_how_to_prepare(root)}"
        )
    return os.path.join(folder, max(versions, key=tfds.core.Version))


def _how_to_prepare(root: str) -> str:
    # Not `tfds build`: that script of TFDS 4.9.10 does not start without apache-beam.
    program = (
        f"import tensorflow_datasets as tfds; tfds.builder('{_NAME}',"
        f" data_dir='{root}', file_format='{_FORMAT}').download_and_prepare()"
    )
    return (
        "put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, from"
        " https://image-net.org/download-images, into"
        f" {os.path.join(root, 'downloads', 'manual')} and run once:"
        f' python -c "{program}"'
    )
