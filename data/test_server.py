"""Predictions as the benchmarks take them: a PNG of the data set's own label ids."""

import os
import re
from collections.abc import Mapping

import cv2
import numpy as np
import tensorflow as tf

from data.classes import IGNORE_LABEL, ClassTable

# Cityscapes finds a prediction by city, sequence and frame.
_FRAME = re.compile(r"[A-Za-z-]+_\d{6}_\d{6}")


class LabelIdWriter:
    """Writes <frame>_pred.png, or <stem of the image's file>_pred.png, into a folder.

    Cityscapes: cityscapesScripts, evaluation/evalPixelLevelSemanticLabeling.py.

    Args:
      folder: made if it is missing.
      classes: of the data set.
      names: of the images, by index.

    Raises ValueError if a class has no single label id, or if two images would get the
    same file.
    """

    def __init__(
        self, folder: str, classes: ClassTable, names: Mapping[int, str]
    ) -> None:
        self._folder = folder
        self._ids = label_ids(classes)
        self._files = {index: prediction_file(name) for index, name in names.items()}
        first: dict[str, int] = {}
        for index, file in self._files.items():
            if first.setdefault(file, index) != index:
                raise ValueError(
                    f"{names[first[file]]} and {names[index]} would both be written to"
                    f" {file}: images to submit need different file names"
                )
        tf.io.gfile.makedirs(folder)

    def write(self, index: int, pred: np.ndarray) -> None:
        """Writes one prediction, uint8 [h w] train ids."""
        _, png = cv2.imencode(".png", self._ids[pred])
        path = os.path.join(self._folder, self._files[index])
        with tf.io.gfile.GFile(path, "wb") as stream:
            stream.write(png.tobytes())


def label_ids(classes: ClassTable) -> np.ndarray:
    """Returns the raw id of every train id, uint8 [c].

    Raises ValueError for a class whose labels hold several ids, or none.
    """
    ids: dict[int, list[int]] = {i: [] for i in range(classes.num_classes)}
    for raw_id, train_id in classes.raw_to_train.items():
        if train_id != IGNORE_LABEL:
            ids[train_id].append(raw_id)
    for train_id, raw_ids in ids.items():
        if len(raw_ids) != 1 or not 0 <= raw_ids[0] <= 255:
            raise ValueError(
                f"class {classes.names[train_id]!r} has the label ids {raw_ids}: a"
                " prediction needs exactly one in 0..255 for each class, so leave"
                " --test_server out for this data set"
            )
    return np.array([raw_ids[0] for raw_ids in ids.values()], np.uint8)


def prediction_file(name: str) -> str:
    """Returns the name of the file for the image called `name`."""
    frame = _FRAME.search(os.path.basename(name)) or _FRAME.search(name)
    stem = frame[0] if frame else os.path.splitext(os.path.basename(name))[0]
    return f"{stem}_pred.png"
