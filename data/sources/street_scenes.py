"""Generated street scenes in the layout of Cityscapes: data without a download.

For the quickstart and the tests. The scenes are simple, but a network has to learn
shape, texture and context to segment them; their mIoU says nothing about Cityscapes.
"""

import json
import os
import shutil
import tempfile
from typing import Any

from PIL import Image

from data.sources.cityscapes import Cityscapes
from data.sources.scenery.renderer import render

NUM_TRAIN, NUM_VAL, SIZE, SEED = 240, 48, (128, 256), 0

_VERSION = 1  # of the pictures: raise it when render() paints others
_MARKER = "street_scenes.json"
_CITY = "street"
_FIRST_INDEX = {"train": 0, "val": 1_000_000}  # val does not depend on num_train


class StreetScenes(Cityscapes):
    """The generated tree at `root`, which is made with the defaults if absent.

    Raises ValueError if `root` holds something else, or scenes of another version.
    """

    def __init__(self, root: str, split: str) -> None:
        if _read_marker(root) is None:
            generate(root)
        super().__init__(root, split)


def generate(
    root: str,
    *,
    num_train: int = NUM_TRAIN,
    num_val: int = NUM_VAL,
    size: tuple[int, int] = SIZE,
    seed: int = SEED,
) -> None:
    """Writes `num_train` and `num_val` scenes of `size` (height, width) below `root`.

    All or nothing: the tree is made beside `root` and then renamed. A tree that was
    made with the same arguments is kept as it is.

    Raises ValueError for impossible arguments, and if `root` holds anything else.
    """
    asked = {
        "version": _VERSION,
        "num_train": num_train,
        "num_val": num_val,
        "size": list(size),
        "seed": seed,
    }
    if min(num_train, num_val) < 1 or min(size) < 32 or seed < 0:
        raise ValueError(
            f"cannot generate {asked}: at least one scene in each split, 32 pixels a"
            " side and a non-negative seed are needed"
        )
    if (found := _read_marker(root)) is not None:
        _check_same(root, found, asked)
        return
    root = os.path.abspath(root)
    parent, name = os.path.split(root)
    os.makedirs(parent, exist_ok=True)
    unfinished = tempfile.mkdtemp(prefix=f".{name}.", dir=parent)
    try:
        os.chmod(unfinished, 0o755)
        for split, count in (("train", num_train), ("val", num_val)):
            _write_split(unfinished, split, count, size, seed)
        with open(os.path.join(unfinished, _MARKER), "w") as file:
            json.dump(asked, file, indent=2)
        _rename(unfinished, root, asked)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_split(root: str, split: str, count: int, size, seed: int) -> None:
    images = os.path.join(root, "leftImg8bit", split, _CITY)
    labels = os.path.join(root, "gtFine", split, _CITY)
    os.makedirs(images)
    os.makedirs(labels)
    for number in range(count):
        image, label = render(seed, _FIRST_INDEX[split] + number, size)
        frame = f"{_CITY}_{number:06d}_000019"  # 19: the annotated frame of a snippet
        image_name, label_name = (
            f"{frame}_leftImg8bit.png",
            f"{frame}_gtFine_labelIds.png",
        )
        Image.fromarray(image).save(os.path.join(images, image_name))
        Image.fromarray(label).save(os.path.join(labels, label_name))


def _rename(unfinished: str, root: str, asked: dict[str, Any]) -> None:
    try:
        os.rename(unfinished, root)  # also replaces an empty folder
    except OSError:
        # Another process, such as a second host of a pod, may have been faster.
        found = _read_marker(root)
        if found is None:
            raise
        _check_same(root, found, asked)


def _read_marker(root: str) -> dict[str, Any] | None:
    """The arguments a tree was made with; None if nothing is at `root`."""
    if "://" in root:
        raise ValueError(
            f"street scenes are generated on a local disk, not at {root!r}; a copy of"
            " the tree elsewhere can be read with config.data.source = 'cityscapes'"
        )
    path = os.path.join(root, _MARKER)
    if os.path.isfile(path):
        with open(path) as file:
            found = json.load(file)
        if found["version"] != _VERSION:
            raise ValueError(
                f"{root} holds street scenes of version {found['version']}, this is"
                f" version {_VERSION}: delete the folder or choose another root"
            )
        return found
    if os.path.exists(root) and (not os.path.isdir(root) or os.listdir(root)):
        raise ValueError(
            f"{root} exists but was not made by generate() (it has no {_MARKER}):"
            " choose another root, or read it with config.data.source = 'cityscapes'"
        )
    return None


def _check_same(root: str, found: dict[str, Any], asked: dict[str, Any]) -> None:
    differences = [
        f"{key} is {found[key]}, asked for {asked[key]}"
        for key in asked
        if found[key] != asked[key]
    ]
    if differences:
        raise ValueError(
            f"{root} holds other street scenes ({'; '.join(differences)}): delete the"
            " folder or choose another root"
        )
