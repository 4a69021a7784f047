"""mmsegmentation's Cityscapes training pipeline: its side of input_pipeline.py.

Runs in the environment of `requirements-torch.txt`:

    python -m benchmarks.torch_input --root CITYSCAPES --workers 2

prints the images per second of a DataLoader with the recipe of the authors' SegNeXt:
random scale, crop, flip and colour distortion. With `--geometry` flip and distortion,
which SegNeXt-JAX leaves to the accelerator, are left out.
"""

import argparse
import logging

from torch.utils.data import DataLoader

from benchmarks.measure_input import add_arguments, images_per_second
from benchmarks.torch_peer import quiet, stub_mmcv_ext

CROP_SIZE = (1024, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    loader = make_loader(args.root, args.batch, args.workers, args.geometry)
    print(images_per_second(iter(loader), args.batch, args.warmup, args.batches))


def make_loader(root: str, batch: int, workers: int, geometry: bool) -> DataLoader:
    stub_mmcv_ext()
    from mmengine.dataset import InfiniteSampler, pseudo_collate
    from mmengine.registry import DefaultScope
    from mmseg.datasets import CityscapesDataset

    DefaultScope.get_instance("input", scope_name="mmseg")
    transforms = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations"),
        dict(
            type="RandomResize",
            scale=(2048, 1024),
            ratio_range=(0.5, 2.0),
            keep_ratio=True,
        ),
        dict(type="RandomCrop", crop_size=CROP_SIZE, cat_max_ratio=0.75),
    ]
    if not geometry:
        transforms += [
            dict(type="RandomFlip", prob=0.5),
            dict(type="PhotoMetricDistortion"),
        ]
    with quiet():
        dataset = CityscapesDataset(
            data_root=root,
            data_prefix=dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train"),
            pipeline=[*transforms, dict(type="PackSegInputs")],
        )
    return DataLoader(
        dataset,
        batch,
        sampler=InfiniteSampler(dataset, shuffle=True),
        num_workers=workers,
        collate_fn=pseudo_collate,
        persistent_workers=workers > 0,
    )


if __name__ == "__main__":
    main()
