"""Small datasets in their real layouts, written with Pillow."""

from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from tiny_imagenet import make_tiny_imagenet


@pytest.fixture
def data_config():
    return ConfigDict(
        {
            "source": "cityscapes",
            "root": "",
            "train_split": "train",
            "val_split": "val",
            "classes": "",
            "crop_size": (24, 32),
            "resize_to": (),
            "scale_range": (0.5, 2.0),
            "scale_step": 0.0,
            "max_class_ratio": 0.75,
            "rare_classes": (),
            "rare_class_probability": 0.0,
            "pad": "after_distortion",
            "on_unreadable": "stop",
        }
    )


@pytest.fixture
def classification_config():
    return ConfigDict(
        {
            "source": "imagenet",
            "root": "",
            "train_split": "train",
            "val_split": "validation",
            "crop_size": (24, 32),
            "area_range": (0.08, 1.0),
            "aspect_range": (3 / 4, 4 / 3),
            "randaugment_ops": 2,
            "randaugment_magnitude": 9.0,
            "randaugment_std": 0.5,
            "eval_crop_ratio": 0.9,
            "on_unreadable": "stop",
        }
    )


@pytest.fixture(scope="session")
def imagenet_root(tmp_path_factory):
    """A prepared ImageNet of 3 classes with 7 training and 4 validation images."""
    root = tmp_path_factory.mktemp("tfds")
    make_tiny_imagenet(root, num_train=7, num_val=4, num_classes=3)
    return root


@pytest.fixture
def write_cityscapes(tmp_path):
    """Writes frames of two cities; image i is filled with the grey level i."""

    def write(count=7, split="train", size=(40, 48), sizes=None, raw_id=None):
        rng = np.random.default_rng(0)
        for i in range(count):
            h, w = sizes[i] if sizes else size
            city = "aachen" if i < count // 2 else "bochum"
            frame = f"{city}_{i:06}_000019"
            raw = rng.integers(0, 34, (h, w)) if raw_id is None else raw_id
            raw = np.broadcast_to(raw, (h, w)).astype(np.uint8)
            image = np.full((h, w, 3), i, np.uint8)
            save(
                tmp_path / f"leftImg8bit/{split}/{city}/{frame}_leftImg8bit.png", image
            )
            save(tmp_path / f"gtFine/{split}/{city}/{frame}_gtFine_labelIds.png", raw)
        return tmp_path

    return write


@pytest.fixture
def write_folder(tmp_path):
    """Writes images/train/i.<extension>, grey level i, and labels of 3 classes."""

    def write(count=3, size=(20, 30), extension="png"):
        for i in range(count):
            label = np.random.default_rng(i).integers(0, 3, size).astype(np.uint8)
            label[0, 0] = 255
            image = np.full((*size, 3), i, np.uint8)
            save(tmp_path / f"images/train/{i}.{extension}", image)
            save(tmp_path / f"labels/train/{i}.png", label)
        return tmp_path

    return write


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
