"""A small imagenet2012 as TFDS prepares it, with classes that a network can learn."""

import io
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

SHORT_SIDE = 40


def make_tiny_imagenet(
    root: Path | str,
    num_train: int,
    num_val: int,
    num_classes: int,
    *,
    file_format: str = "array_record",
) -> None:
    """Writes `root`/imagenet2012/5.1.0 with splits train and validation.

    Image i has class i % num_classes, which is its hue, with random stripes and noise,
    and 40 pixels or more a side.
    """
    names = [f"n{label:08}" for label in range(num_classes)]
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=names),
            "file_name": tfds.features.Text(),
        }
    )
    counts = {"train": num_train, "validation": num_val}
    tfds.dataset_builders.store_as_tfds_dataset(
        "imagenet2012",
        "5.1.0",
        features,
        {
            split: list(_examples(seed, count, names))
            for seed, (split, count) in enumerate(counts.items())
        },
        data_dir=root,
        file_format=file_format,
        disable_shuffling=True,
    )


def _examples(seed, count, names):
    for i in range(count):
        label = i % len(names)
        rng = np.random.default_rng([seed, i])
        example = {
            "image": io.BytesIO(encode(paint(rng, label / len(names)))),
            "label": label,
            "file_name": f"{names[label]}_{i}.JPEG",
        }
        yield i, example


def paint(rng: np.random.Generator, hue: float) -> np.ndarray:
    """Returns an image of one hue in [0, 1), uint8 [h w 3]."""
    height, width = SHORT_SIDE + rng.integers(0, 20, 2)
    y, x = np.indices((height, width))
    angle, wavelength = rng.uniform(0, np.pi), rng.uniform(4, 12)
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) / wavelength)
    hsv = np.empty((height, width, 3), np.uint8)
    hsv[..., 0] = 255 * hue
    hsv[..., 1] = 200
    hsv[..., 2] = 160 + 50 * wave + rng.uniform(-20, 20, (height, width))
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))


def encode(image: np.ndarray) -> bytes:
    """Returns the JPEG of uint8 [h w 3]."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    return file.getvalue()
