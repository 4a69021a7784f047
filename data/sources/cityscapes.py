"""Cityscapes as it is distributed (leftImg8bit_trainvaltest, gtFine_trainvaltest)."""

import os

import tensorflow as tf

from data.classes import CITYSCAPES
from data.sources.base import FilePairs, list_folder

_IMAGE_SUFFIX = "_leftImg8bit.png"
_LABEL_SUFFIX = "_gtFine_labelIds.png"


class Cityscapes(FilePairs):
    """Frames and fine labels of one split, sorted by city and frame.

    Labels hold the 35 raw ids; CITYSCAPES gives them their 19 train ids.

    Raises FileNotFoundError if the folder, its images or any label are missing.
    """

    def __init__(self, root: str, split: str) -> None:
        layout = (
            f"Cityscapes is expected under config.data.root = {root!r} as"
            f" leftImg8bit/{split}/<city>/*{_IMAGE_SUFFIX} and"
            f" gtFine/{split}/<city>/*{_LABEL_SUFFIX}."
        )
        images = os.path.join(root, "leftImg8bit", split)
        labels = os.path.join(root, "gtFine", split)
        pairs = []
        for city in list_folder(images, layout):
            if not tf.io.gfile.isdir(os.path.join(images, city)):
                continue
            for name in list_folder(os.path.join(images, city), layout):
                if name.endswith(_IMAGE_SUFFIX):
                    frame = name.removesuffix(_IMAGE_SUFFIX)
                    image = os.path.join(images, city, name)
                    label = os.path.join(labels, city, frame + _LABEL_SUFFIX)
                    pairs.append((image, label))
        super().__init__(pairs, CITYSCAPES, layout)
