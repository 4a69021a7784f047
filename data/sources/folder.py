"""Any dataset kept as image files and label files."""

import os

import tensorflow as tf

from data.classes import ClassTable
from data.sources.base import FilePairs, list_folder, read_lines

_IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp")
_LABEL_EXTENSIONS = (".png",)


class Folder(FilePairs):
    """images/{split}/** with labels/{split}/**, or the pairs of a list file.

    An image and its label have the same folders and name below these two, but for the
    extension: .jpg, .jpeg, .png or .bmp, and .png, in capitals or not.

    A list file (`split` ends in .txt) has lines `image label`, relative to `root`, as
    PaddleSeg writes them. A tab separates the two, or else the one space for which
    both have such an extension.

    Labels hold what `classes` says: ids in 8- or 16-bit PNGs, grey or with a palette,
    or colours.

    Raises FileNotFoundError if the folder or its images are missing, or for an image
    without a label, or a label without an image; ValueError for a malformed list file,
    and for two images of one name.
    """

    def __init__(self, root: str, split: str, classes: ClassTable) -> None:
        self.classes = classes
        is_list = split.endswith(".txt")
        contents = (
            f"the list {split} with lines `image label` relative to it"
            if is_list
            else f"images/{split}/*.jpg or .png and labels/{split}/<same name>.png"
        )
        layout = f"Expected under config.data.root = {root!r}: {contents}."
        pairs = (_read_list if is_list else _match_names)(root, split, layout)
        super().__init__(pairs, layout)


def _match_names(root: str, split: str, layout: str) -> list[tuple[str, str]]:
    images_folder = os.path.join(root, "images", split)
    labels_folder = os.path.join(root, "labels", split)
    images = _by_stem(images_folder, _IMAGE_EXTENSIONS, layout)
    labels = {}
    if images and tf.io.gfile.isdir(labels_folder):
        labels = _by_stem(labels_folder, _LABEL_EXTENSIONS, layout)
    if images and (alone := sorted(labels.keys() - images.keys())):
        paths = [os.path.join(labels_folder, labels[stem]) for stem in alone]
        raise FileNotFoundError(
            f"{len(paths)} of {len(labels)} labels have no image in {images_folder}:"
            f" {', '.join(paths[:3])}{', …' * (len(paths) > 3)}. {layout}"
        )
    return [
        (
            os.path.join(images_folder, name),
            os.path.join(labels_folder, labels.get(stem, f"{stem}.png")),
        )
        for stem, name in images.items()
    ]


def _by_stem(folder: str, extensions: tuple[str, ...], layout: str) -> dict[str, str]:
    """Returns the files below a folder, sorted, by their paths without extension."""
    files: dict[str, str] = {}
    for name in sorted(_walk(folder, extensions, layout)):
        stem = os.path.splitext(name)[0]
        if stem in files:
            raise ValueError(
                f"{folder} has both {files[stem]} and {name}: of which is the label (or"
                " image) of that name? Rename or remove one"
            )
        files[stem] = name
    return files


def _walk(folder: str, extensions: tuple[str, ...], layout: str) -> list[str]:
    files = []
    for name in list_folder(folder, layout):
        if name.lower().endswith(extensions):
            files.append(name)
        # Object stores answer slowly, so what looks like a file is not asked for.
        elif tf.io.gfile.isdir(path := os.path.join(folder, name)):
            inside = _walk(path, extensions, layout)
            files += [os.path.join(name, file) for file in inside]
    return files


def _read_list(root: str, split: str, layout: str) -> list[tuple[str, str]]:
    path = os.path.join(root, split)
    pairs = []
    for number, line in enumerate(read_lines(path, layout), start=1):
        line = line.strip().replace("\\", "/")  # as Windows writes paths
        if line:
            image, label = _split_line(line, f"{path}:{number}")
            pairs.append((os.path.join(root, image), os.path.join(root, label)))
    return pairs


def _split_line(line: str, place: str) -> tuple[str, str]:
    if "\t" in line:
        splits = [tuple(field.strip() for field in line.split("\t"))]
    else:
        spaces = [i for i, character in enumerate(line) if character == " "]
        splits = [(line[:i].strip(), line[i:].strip()) for i in spaces]
        splits = [
            (image, label)
            for image, label in dict.fromkeys(splits)  # two spaces, one split
            if image.lower().endswith(_IMAGE_EXTENSIONS)
            and label.lower().endswith(_LABEL_EXTENSIONS)
        ]
    if len(splits) != 1 or len(splits[0]) != 2:
        raise ValueError(
            f"{place}: {line!r} is not `image label`: one image"
            f" ({', '.join(_IMAGE_EXTENSIONS)}) and one label (.png), separated by a"
            " space, or by a tab if names have spaces"
        )
    return splits[0]
