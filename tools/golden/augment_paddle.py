"""PaddleSeg's augmentations on given draws, by its own transforms.

    PYTHONPATH=.:tests/models python -m tools.golden.augment_paddle

PaddleSeg 2.8.0's RandomPaddingCrop mistakes the label for the image when it tests the
ratio of classes (its issue 3605, mended since). Here that run gives the offset, and one
without the test cuts there.

tests/data/golden/augment_paddle.npz, ResizeStepScaling (0.5, 0.75 … 2) and
RandomPaddingCrop:
    as augment_mmseg.npz (see augment_torch.py), but image and label are padded, the
    image as the next step, RandomDistort, truncates it
tests/training/golden/augment_paddle.npz:
    image [24 64 3]                          the colours to distort
    hsv [24 64 3], rgb [24 64 3]             Pillow's HSV of it; RGB of hsv_in
    hsv_in [24 64 3]
    <case>/order, coins, factors [4], hue    of RandomDistort; 0…3 are brightness,
    <case>/image [24 64 3]                   contrast, saturation, hue
    scene [75 141 3], label [75 141]
    whole/<case>/draws, crop_size, flip, order, coins, factors, hue
    whole/<case>/image [h w 3] float32       what enters the network: scale, pad and
    whole/<case>/label [h w]                 crop, flip, distort, normalise
"""

import random
from typing import Any
from unittest import mock

import numpy as np
from paddleseg import transforms
from paddleseg.transforms import functional
from PIL import Image

from tools.golden import augment, files

MEAN, STDDEV = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OPERATIONS = ("brightness", "contrast", "saturation", "hue")
NEUTRAL = dict(order=(0, 1, 2, 3), coins=(0, 0, 0, 0), factors=(1.0,) * 4, hue=0.0)
ALL = (1, 1, 1, 1)
DISTORTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "darkest": dict(coins=(1, 0, 0, 0), factors=(0.5, 1.0, 1.0, 1.0)),
    "brighter": dict(coins=(1, 0, 0, 0), factors=(1.2345, 1.0, 1.0, 1.0)),
    "least_contrast": dict(coins=(0, 1, 0, 0), factors=(1.0, 0.5, 1.0, 1.0)),
    "most_contrast": dict(coins=(0, 1, 0, 0), factors=(1.0, 1.5, 1.0, 1.0)),
    "least_saturation": dict(coins=(0, 0, 1, 0), factors=(1.0, 1.0, 0.5, 1.0)),
    "saturation": dict(coins=(0, 0, 1, 0), factors=(1.0, 1.0, 1.3721, 1.0)),
    "lowest_hue": dict(coins=(0, 0, 0, 1), hue=-18.0),
    "lower_hue": dict(coins=(0, 0, 0, 1), hue=-0.6),
    "hue_0": dict(coins=(0, 0, 0, 1), hue=0.0),
    "higher_hue": dict(coins=(0, 0, 0, 1), hue=5.9),
    "highest_hue": dict(coins=(0, 0, 0, 1), hue=17.99),
    "in_order": dict(coins=ALL, factors=(1.31, 0.77, 1.23, 1.0), hue=-7.7),
    "reversed": dict(
        coins=ALL, order=(3, 2, 1, 0), factors=(1.31, 0.77, 1.23, 1.0), hue=-7.7
    ),
    "mixed": dict(
        coins=ALL, order=(1, 3, 0, 2), factors=(0.6, 1.45, 0.55, 1.0), hue=12.5
    ),
    "extreme": dict(coins=ALL, order=(2, 0, 3, 1), factors=(1.5,) * 4, hue=17.99),
    "extreme_reversed": dict(
        coins=ALL, order=(1, 3, 0, 2), factors=(1.5,) * 4, hue=-18.0
    ),
    "faint": dict(coins=ALL, order=(0, 3, 2, 1), factors=(0.5,) * 4, hue=3.2),
    "without_hue": dict(coins=(1, 1, 1, 0), order=(2, 1, 0, 3), factors=(0.9, 1.4) * 2),
}
# name → crop, flip, distortion
WHOLE = {
    "padded": (augment.CropCase("padded", (48, 96), scale=0.0), True, "without_hue"),
    "flipped": (
        augment.CropCase("flipped", (32, 64), scale=0.8),
        True,
        "most_contrast",
    ),
    "plain": (augment.CropCase("plain", (32, 64), scale=0.31), False, "in_order"),
    "enlarged": (augment.CropCase("larger", (32, 64), scale=0.99), True, "extreme"),
}


def main() -> None:
    files.save("tests/data/golden/augment_paddle.npz", augment.crops(crop_golden))
    files.save(
        "tests/training/golden/augment_paddle.npz", colours_golden() | whole_golden()
    )


def crop_golden(
    image: np.ndarray, label: np.ndarray, case: augment.CropCase
) -> dict[str, np.ndarray]:
    """`scale_and_crop`, as RandomDistort starts; PaddleSeg fits into no box."""
    result = scale_and_crop(image, label, case)
    result["image"] = result["image"].astype("uint8")
    return result | {"resize_to": np.zeros(0, int)}


def scale_and_crop(
    image: np.ndarray, label: np.ndarray, case: augment.CropCase
) -> dict[str, np.ndarray]:
    """ResizeStepScaling and RandomPaddingCrop; image float32, padded."""
    draws = case.draws()

    def choose(factors: list[float]) -> None:
        factors.insert(0, factors.pop(int(draws[0] * len(factors))))

    data = dict(img=image.astype("float32"), label=label, gt_fields=["label"])
    with mock.patch("numpy.random.shuffle", choose):
        data = transforms.ResizeStepScaling(0.5, 2.0, 0.25)(data)
    scaled_size = data["img"].shape[:2]
    boxes = []
    cut = functional.crop

    def record(image: np.ndarray, box: tuple) -> np.ndarray:
        boxes.append(box)
        return cut(image, box)

    crop = transforms.RandomPaddingCrop(
        case.crop_size[::-1],  # (width, height)
        category_max_ratio=case.max_class_ratio,
    )
    with (
        mock.patch("numpy.random.randint", augment.integers(draws[1:])),
        mock.patch.object(functional, "crop", record),
    ):
        crop(dict(data))
    x, y = boxes[-1][:2]
    offset = iter((y, x))
    crop.category_max_ratio = 1.0
    with mock.patch("numpy.random.randint", lambda low, high: next(offset)):
        data = crop(data)
    num_tested = len(boxes) - 1 if case.max_class_ratio < 1 else 0
    return {
        "scaled_size": np.array(scaled_size),
        "offset": np.array([y, x]),
        "num_tested": np.array(num_tested),
        "image": data["img"],
        "label": data["label"],
    }


def colours_golden() -> dict[str, np.ndarray]:
    """RandomDistort, and the conversions it is made of."""
    image = augment.colours()
    hsv_in = augment.uniform("hsv", image.size).reshape(image.shape) * 256
    hsv_in = hsv_in.astype(np.uint8)
    h, w, _ = image.shape
    rgb = Image.frombytes("HSV", (w, h), hsv_in.tobytes()).convert("RGB")
    golden = {
        "image": image,
        "hsv": np.asarray(Image.fromarray(image).convert("HSV")),
        "hsv_in": hsv_in,
        "rgb": np.asarray(rgb),
    }
    for name, changes in DISTORTIONS.items():
        draw = NEUTRAL | changes
        golden |= {f"{name}/{n}": np.asarray(x) for n, x in draw.items()}
        distorted = distort(image.astype("float32"), draw)
        golden[f"{name}/image"] = distorted.astype(np.uint8)
    return golden


def distort(image: np.ndarray, draw: dict[str, Any]) -> np.ndarray:
    """RandomDistort of RGB with the given draw; float32."""
    values = (*draw["factors"][:3], draw["hue"])
    script: list[float] = []
    for operation in draw["order"]:  # each: a coin below 0.5, then its value
        coin = draw["coins"][operation]
        script += [0.0, values[operation]] if coin else [0.5]
    numbers = iter([*script, 0.5])  # sharpness is last, and never drawn

    def reorder(operations: list) -> None:
        by_name = {operation.__name__: operation for operation in operations}
        names = [OPERATIONS[i] for i in draw["order"]]
        operations[:] = [by_name[name] for name in (*names, "sharpness")]

    with (
        mock.patch.object(random, "shuffle", reorder),
        mock.patch("numpy.random.uniform", lambda low, high: next(numbers)),
    ):
        distorted = transforms.RandomDistort()(dict(img=image))
    assert next(numbers, None) is None, "the peer drew fewer numbers"
    return distorted["img"]


def whole_golden() -> dict[str, np.ndarray]:
    """Everything between the files and the network."""
    scene = augment.scene()
    golden = {"scene": scene["image"], "label": scene["scene"]}
    for name, (case, flip, distortion) in WHOLE.items():
        crop = scale_and_crop(scene["image"], scene["scene"], case)
        data = dict(img=crop["image"], label=crop["label"], gt_fields=["label"])
        data = transforms.RandomHorizontalFlip(prob=float(flip))(data)
        draw = NEUTRAL | DISTORTIONS[distortion]
        data["img"] = distort(data["img"], draw)
        data = transforms.Normalize(MEAN, STDDEV)(data)
        fields = case.recipe() | {n: np.asarray(x) for n, x in draw.items()}
        fields |= {"flip": np.asarray(flip), "resize_to": np.zeros(0, int)}
        fields |= {"image": data["img"], "label": data["label"]}
        golden |= {f"whole/{name}/{n}": x for n, x in fields.items()}
    return golden


if __name__ == "__main__":
    main()
