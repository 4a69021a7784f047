"""Any dataset kept as image files and label files of train ids."""

import os

import tensorflow as tf

from data.classes import ClassTable, train_id_table
from data.sources.base import FilePairs, list_folder, read_file

_IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png")


class Folder(FilePairs):
    """images/{split}/* with labels/{split}/*.png, or the pairs of a list file.

    A list file (`split` ends in .txt) has lines `image label`, relative to `root`, as
    PaddleSeg writes them. Labels are 8-bit PNGs, grey or with a palette, of train ids
    0..num_classes-1 and 255, whatever raw ids the table `classes` knows.

    Raises FileNotFoundError if the folder, its images or any label are missing,
    ValueError for a malformed list file.
    """

    def __init__(self, root: str, split: str, classes: ClassTable) -> None:
        is_list = split.endswith(".txt")
        contents = (
            f"the list {split} with lines `image label` relative to it"
            if is_list
            else f"images/{split}/*.jpg or .png and labels/{split}/<same name>.png"
        )
        layout = f"Expected under config.data.root = {root!r}: {contents}."
        pairs = (_read_list if is_list else _match_names)(root, split, layout)
        super().__init__(pairs, train_id_table(classes.names, classes.palette), layout)


def _match_names(root: str, split: str, layout: str) -> list[tuple[str, str]]:
    images = os.path.join(root, "images", split)
    labels = os.path.join(root, "labels", split)
    pairs = []
    for name in list_folder(images, layout):
        stem, extension = os.path.splitext(name)
        if extension.lower() in _IMAGE_EXTENSIONS:
            pairs.append(
                (os.path.join(images, name), os.path.join(labels, stem + ".png"))
            )
    return pairs


def _read_list(root: str, split: str, layout: str) -> list[tuple[str, str]]:
    path = os.path.join(root, split)
    if not tf.io.gfile.exists(path):
        raise FileNotFoundError(f"there is no list file {path}. {layout}")
    pairs = []
    for number, line in enumerate(read_file(path).decode().splitlines(), start=1):
        fields = line.split()
        if fields and len(fields) != 2:
            raise ValueError(f"{path}:{number}: {line!r} is not `image label`")
        if fields:
            pairs.append((os.path.join(root, fields[0]), os.path.join(root, fields[1])))
    return pairs
