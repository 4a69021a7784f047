"""ImageNet-1k (ILSVRC 2012) as TensorFlow Datasets prepares it."""

import tensorflow_datasets as tfds

from data.sources.base import LabelledImage
from data.sources.tfds import Prepared

_NAME = "imagenet2012"
_DOWNLOADS = (
    "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, from"
    " https://image-net.org/download-images,"
)


class ImageNet:
    """One split of imagenet2012 below `root`, a data_dir of TFDS.

    `split` is "train", "validation", or a part such as "train[:1%]"; `classes` are the
    synset ids, n01440764 and so on, in the order of the labels.

    Raises as `Prepared` does.
    """

    def __init__(self, root: str, split: str) -> None:
        self._prepared = Prepared(
            _NAME, root, split, encoded=("image",), downloads=_DOWNLOADS
        )
        self.classes = tuple(self._prepared.features["label"].names)

    def __len__(self) -> int:
        return len(self._prepared)

    def __getitem__(self, index: int) -> LabelledImage:
        place, example = self._prepared[index]
        name = f"{place} {example['file_name'].decode()}"
        return LabelledImage(name, example["image"], int(example["label"]))


def class_names() -> tuple[str, ...]:
    """The 1000 synset ids in the order of the labels; needs no data."""
    return tuple(tfds.builder(_NAME).info.features["label"].names)
