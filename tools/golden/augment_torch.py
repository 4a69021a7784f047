"""mmsegmentation's augmentations on given draws, by its own transforms.

    PYTHONPATH=.:tests/models python -m tools.golden.augment_torch

OpenCV 4.5.5 and 5.0 give the same. Images are RGB here, BGR inside the peer.

tests/data/golden/augment_mmseg.npz, RandomResize (ratio 0.5…2) and RandomCrop:
    image [75 141 3], scene, corner, plain, void [75 141]   uint8, see augment.py
    <case>/draws [23], crop_size, resize_to, max_class_ratio, label (its name)
    <case>/scaled_size [2], offset [2], image, label   not padded
    <case>/num_tested   offsets that the ratio of classes was tested at
    places/draws [n 23], image_size [n 2], scaled_size, offset [n 2], label [n] CRCs:
        crops PLACE_CROP of the top left of `scene`
tests/training/golden/augment_mmseg.npz:
    image [24 64 3]                          the colours to distort
    hsv [24 64 3], rgb [24 64 3]             OpenCV's HSV of it; RGB of hsv_in
    hsv_in [24 64 3]
    <case>/coins [5], brightness, contrast, saturation, hue   of PhotoMetricDistortion
    <case>/image [24 64 3]
    scene [75 141 3], label [75 141]
    whole/<case>/draws, crop_size, resize_to, flip, coins, brightness, …
    whole/<case>/image [h w 3] float32       what enters the network: scale, crop, flip,
    whole/<case>/label [h w]                 distort, normalise, pad
"""

from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from mmcv.transforms import RandomFlip, RandomResize

from benchmarks import torch_peer
from tools.golden import augment, files

SCALE_RANGE = (0.5, 2.0)
MEAN, STDDEV = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# brightness, contrast, contrast first, saturation, hue: coins, then values
NEUTRAL = dict(
    coins=(0, 0, 0, 0, 0), brightness=0.0, contrast=1.0, saturation=1.0, hue=0
)
DISTORTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "nothing_mode": dict(coins=(0, 0, 1, 0, 0)),
    "darkest": dict(coins=(1, 0, 0, 0, 0), brightness=-32.0),
    "brighter": dict(coins=(1, 0, 1, 0, 0), brightness=20.37),
    "least_contrast": dict(coins=(0, 1, 1, 0, 0), contrast=0.5),
    "contrast": dict(coins=(0, 1, 0, 0, 0), contrast=1.2345),
    "least_saturation": dict(coins=(0, 0, 0, 1, 0), saturation=0.5),
    "saturation_1": dict(coins=(0, 0, 0, 1, 0), saturation=1.0),
    "most_saturation": dict(coins=(0, 0, 0, 1, 0), saturation=1.4999),
    "hue_0": dict(coins=(0, 0, 0, 0, 1), hue=0),
    "lowest_hue": dict(coins=(0, 0, 0, 0, 1), hue=-18),
    "highest_hue": dict(coins=(0, 0, 0, 0, 1), hue=17),
    "saturation_hue": dict(coins=(0, 0, 0, 1, 1), saturation=0.613, hue=-7),
    "more_saturation_hue": dict(coins=(0, 0, 1, 1, 1), saturation=1.37, hue=11),
    "contrast_first": dict(coins=(0, 1, 1, 0, 1), contrast=1.5, hue=10),
    "contrast_last": dict(coins=(0, 1, 0, 0, 1), contrast=1.5, hue=10),
    "all_first": dict(
        coins=(1, 1, 1, 1, 1), brightness=-11.7, contrast=1.31, saturation=1.43, hue=-13
    ),
    "all_last": dict(
        coins=(1, 1, 0, 1, 1), brightness=23.1, contrast=1.4321, saturation=0.57, hue=5
    ),
    "extreme_first": dict(
        coins=(1, 1, 1, 1, 1), brightness=32.0, contrast=1.5, saturation=1.5, hue=17
    ),
    "extreme_last": dict(
        coins=(1, 1, 0, 1, 1), brightness=-32.0, contrast=1.5, saturation=1.5, hue=-18
    ),
    "faint": dict(
        coins=(1, 1, 0, 1, 1), brightness=9.99, contrast=0.5, saturation=0.5, hue=-1
    ),
}
# name → crop, flip, distortion. Rows of 32 and 64 pixels: see `augment.colours`.
WHOLE = {
    "padded": (augment.CropCase("padded", (40, 80), scale=0.0285), True, "contrast"),
    "flipped": (augment.CropCase("flipped", (32, 64), scale=0.8), True, "all_first"),
    "plain": (augment.CropCase("plain", (32, 64), scale=0.31), False, "all_last"),
    "enlarged": (augment.CropCase("larger", (32, 64), scale=0.99), True, "brighter"),
}


def main() -> None:
    torch.set_default_dtype(torch.float32)
    torch_peer.stub_mmcv_ext()
    files.save("tests/data/golden/augment_mmseg.npz", augment.crops(scale_and_crop))
    files.save(
        "tests/training/golden/augment_mmseg.npz", colours_golden() | whole_golden()
    )


def scale_and_crop(
    image: np.ndarray, label: np.ndarray, case: augment.CropCase
) -> dict[str, np.ndarray]:
    """RandomResize and RandomCrop; image and label [h w] not padded."""
    from mmseg.datasets.transforms import RandomCrop

    draws = case.draws()
    # The configs' `scale` is (width, height).
    scale = tuple(reversed(case.resize_to or image.shape[:2]))
    resize = RandomResize(scale=scale, ratio_range=SCALE_RANGE, keep_ratio=True)
    crop = RandomCrop(case.crop_size, cat_max_ratio=case.max_class_ratio)
    results = dict(
        img=np.ascontiguousarray(image[..., ::-1]),
        gt_seg_map=label,
        seg_fields=["gt_seg_map"],
    )
    with mock.patch("numpy.random.random_sample", lambda: draws[0]):
        results = resize(results)
    scaled_size = results["img"].shape[:2]
    boxes = []
    cut = RandomCrop.crop

    def record(self: RandomCrop, img: np.ndarray, box: tuple) -> np.ndarray:
        boxes.append(box)
        return cut(self, img, box)

    with (
        mock.patch("numpy.random.randint", augment.integers(draws[1:])),
        mock.patch.object(RandomCrop, "crop", record),
    ):
        results = crop(results)
    return {
        "scaled_size": np.array(scaled_size),
        "offset": np.array([boxes[-1][0], boxes[-1][2]]),
        "num_tested": np.array(len(boxes) - 2),  # the last two cut image and label
        "image": results["img"][..., ::-1],
        "label": results["gt_seg_map"],
    }


def colours_golden() -> dict[str, np.ndarray]:
    """PhotoMetricDistortion, and the conversions it is made of."""
    image = augment.colours()
    hsv_in = augment.uniform("hsv", image.size).reshape(image.shape) * (180, 256, 256)
    hsv_in = hsv_in.astype(np.uint8)
    golden = {
        "image": image,
        "hsv": cv2.cvtColor(image, cv2.COLOR_RGB2HSV),
        "hsv_in": hsv_in,
        "rgb": cv2.cvtColor(hsv_in, cv2.COLOR_HSV2RGB),
    }
    for name, changes in DISTORTIONS.items():
        draw = NEUTRAL | changes
        golden |= {f"{name}/{n}": np.asarray(x) for n, x in draw.items()}
        golden[f"{name}/image"] = distort(image[..., ::-1], draw)[..., ::-1]
    return golden


def distort(image: np.ndarray, draw: dict[str, Any]) -> np.ndarray:
    """PhotoMetricDistortion of BGR with the given draw."""
    from mmseg.datasets.transforms import PhotoMetricDistortion, transforms

    has_brightness, has_contrast, mode, has_saturation, has_hue = draw["coins"]
    contrast = [has_contrast, draw["contrast"]][: 1 + has_contrast]
    script = iter(
        [has_brightness, draw["brightness"]][: 1 + has_brightness]
        + [mode]
        + (contrast if mode else [])
        + [has_saturation, draw["saturation"]][: 1 + has_saturation]
        + [has_hue, draw["hue"]][: 1 + has_hue]
        + ([] if mode else contrast)
    )
    with mock.patch.multiple(
        transforms.random,
        randint=lambda *bounds: next(script),
        uniform=lambda *bounds: next(script),
    ):
        distorted = PhotoMetricDistortion()(dict(img=np.ascontiguousarray(image)))
    assert next(script, None) is None, "the peer drew fewer numbers"
    return distorted["img"]


def whole_golden() -> dict[str, np.ndarray]:
    """Everything between the files and the network."""
    from mmengine.structures import PixelData
    from mmseg.models import SegDataPreProcessor
    from mmseg.structures import SegDataSample

    scene = augment.scene()
    golden = {"scene": scene["image"], "label": scene["scene"]}
    for name, (case, flip, distortion) in WHOLE.items():
        crop = scale_and_crop(scene["image"], scene["scene"], case)
        results = RandomFlip(prob=float(flip))(
            dict(
                img=crop["image"][..., ::-1],
                img_shape=crop["image"].shape[:2],
                gt_seg_map=crop["label"],
                seg_fields=["gt_seg_map"],
            )
        )
        draw = NEUTRAL | DISTORTIONS[distortion]
        image = distort(results["img"], draw)
        label = np.ascontiguousarray(results["gt_seg_map"])
        sample = SegDataSample(gt_sem_seg=PixelData(data=torch.from_numpy(label)[None]))
        preprocess = SegDataPreProcessor(
            mean=MEAN, std=STDDEV, bgr_to_rgb=True, size=case.crop_size
        )
        image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
        batch = preprocess(dict(inputs=[image], data_samples=[sample]), training=True)
        fields = case.recipe() | {n: np.asarray(x) for n, x in draw.items()}
        fields |= {
            "flip": np.asarray(flip),
            "size": np.array(label.shape),
            "image": batch["inputs"][0].numpy().transpose(1, 2, 0),
            "label": batch["data_samples"][0].gt_sem_seg.data[0].numpy(),
        }
        golden |= {f"whole/{name}/{n}": x for n, x in fields.items()}
    return golden


if __name__ == "__main__":
    main()
