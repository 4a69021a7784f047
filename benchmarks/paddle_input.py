"""PaddleSeg's Cityscapes training pipeline: its side of input_pipeline.py.

Runs in the environment of `requirements-paddle.txt`:

    python -m benchmarks.paddle_input --root CITYSCAPES --workers 2

prints the images per second of a DataLoader with the transforms of its SegNeXt: scale
in steps, crop, flip, colour distortion, normalisation. `--geometry`: scale, crop.
"""

import argparse
import itertools
import warnings
from collections.abc import Iterator
from typing import Any

from benchmarks.measure_input import add_arguments, images_per_second

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about compilers that nothing here needs
    import paddle
    from paddleseg.datasets import Cityscapes
    from paddleseg.transforms import (
        Normalize,
        RandomDistort,
        RandomHorizontalFlip,
        RandomPaddingCrop,
        ResizeStepScaling,
    )

CROP_SIZE = (1024, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    args = parser.parse_args()
    loader = make_loader(args.root, args.batch, args.workers, args.geometry)
    print(images_per_second(_endless(loader), args.batch, args.warmup, args.batches))


def make_loader(
    root: str, batch: int, workers: int, geometry: bool
) -> paddle.io.DataLoader:
    transforms = [ResizeStepScaling(0.5, 2.0, 0.25), RandomPaddingCrop(CROP_SIZE)]
    if not geometry:
        transforms += [RandomHorizontalFlip(), RandomDistort(), Normalize()]
    return paddle.io.DataLoader(
        Cityscapes(transforms, root, mode="train"),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        places=paddle.CPUPlace(),
        return_list=True,
        persistent_workers=workers > 0,
    )


def _endless(loader: paddle.io.DataLoader) -> Iterator[Any]:
    return itertools.chain.from_iterable(itertools.repeat(loader))


if __name__ == "__main__":
    main()
