"""mmsegmentation's evaluation, by its own pipelines, inference and metrics.

    PYTHONPATH=.:tests/models python -m tools.golden.evaluation_torch

The authors' protocol, of mmsegmentation 0.24, is put together of what became of its
parts: Resize into a scaled box, ResizeToMultiple, SegTTAModel. The model is the small
one of files.py, in float64; images are RGB here, BGR inside the peer.

tests/evaluation/golden/mmseg.npz:
    <case>/image_size, mode, crop_size, stride, scales, flip, resize_to, size_divisor,
        pad_divisor    of the image (the top left of `image`), and as in config.eval
    <case>/pred [h w]                uint8
    <case>/scores [h/7 w/7 19]       every seventh of the averaged probabilities; of one
                                     view, the logits
    image [75 141 3]                 uint8
    metrics/label, metrics/pred [3 30 40]     uint8, see evaluation.py; scores of them:
    metrics/IoU, Acc, Dice [8], aAcc ()       in 0…1, NaN for an absent class
"""

from typing import Any

import numpy as np
import torch

from benchmarks import torch_peer
from tools.golden import evaluation, files, from_torch
from tools.golden.augment_torch import MEAN, STDDEV
from tools.golden.evaluation import Case, Job, Protocol

torch_peer.stub_mmcv_ext()
with torch_peer.quiet():
    import mmseg.datasets.transforms  # noqa: F401 (fills the registry)
    from mmcv.transforms import TestTimeAug
    from mmengine.config import ConfigDict
    from mmseg.evaluation import IoUMetric
    from mmseg.models import SegDataPreProcessor
    from mmseg.models.segmentors import SegTTAModel
    from mmseg.registry import TRANSFORMS

CROP, STRIDE = evaluation.WINDOWS
CASES = (
    Case("whole", Protocol()),
    Case("slide", Protocol("slide", CROP, STRIDE)),
    Case("slide_low", Protocol("slide", (96, 64), (40, 30))),
    Case("padded", Protocol(scales=(0.5, 1.75), flip=True, pad_divisor=32)),
    Case(
        "stretched",
        Protocol(scales=(0.75, 1.25), flip=True, resize_to=(64, 128), size_divisor=32),
    ),
    Case(
        "slide_scales",
        Protocol("slide", CROP, STRIDE, scales=(0.75, 1.25), flip=True, pad_divisor=32),
        image_size=(50, 67),
    ),
)


def main() -> None:
    torch.set_default_dtype(torch.float64)
    model = from_torch.filled_model(from_torch.TINY, nmf_rank=files.TINY_RANK)
    golden = {"image": evaluation.image(CASES[0])}
    for case in CASES:
        pipeline = make_pipeline(case.protocol, {"type": "LoadImageFromNDArray"})
        bgr = np.ascontiguousarray(evaluation.image(case)[..., ::-1])
        peer = Evaluated(model, case.protocol)
        pred = peer(pipeline({"img": bgr})).pred_sem_seg.data.squeeze()
        scores = peer.scores.permute(1, 2, 0)
        golden |= evaluation.golden(case, scores.numpy(), pred.numpy())
    label, pred = evaluation.label_maps()
    golden |= {"metrics/label": label, "metrics/pred": pred}
    golden |= {f"metrics/{n}": x for n, x in metrics(label, pred).items()}
    files.save("tests/evaluation/golden/mmseg.npz", golden)


def make_pipeline(protocol: Protocol, load: dict, *load_label: dict) -> Any:
    """From an image to the inputs of all views: the tta_pipeline of its configs."""
    if protocol.resize_to:
        h, w = protocol.resize_to
        sizes: list[dict] = [
            {"scale": (int(w * r), int(h * r))} for r in protocol.scales
        ]
    else:
        sizes = [{"scale_factor": r} for r in protocol.scales]
    views = [
        [{"type": "Resize", "keep_ratio": True, **size} for size in sizes],
        [{"type": "RandomFlip", "prob": p} for p in (0.0, 1.0)[: 1 + protocol.flip]],
        [{"type": step["type"]} for step in load_label],
        [{"type": "PackSegInputs"}],
    ]
    if protocol.size_divisor > 1:
        step = {"type": "ResizeToMultiple", "size_divisor": protocol.size_divisor}
        views.insert(1, [step])
    load_image = TRANSFORMS.build(load)
    augment = TestTimeAug([[TRANSFORMS.build(t) for t in ts] for ts in views if ts])
    return lambda results: augment(load_image(results))


class Evaluated(SegTTAModel):
    """A model under a protocol; `scores` [c h w] are those of its last image."""

    def __init__(self, model: torch.nn.Module, protocol: Protocol) -> None:
        super().__init__(model.eval())
        model.test_cfg = ConfigDict(
            mode=protocol.mode, crop_size=protocol.crop_size, stride=protocol.stride
        )
        divisor = {"size_divisor": protocol.pad_divisor}
        model.data_preprocessor = SegDataPreProcessor(
            mean=MEAN,
            std=STDDEV,
            bgr_to_rgb=True,
            test_cfg=divisor if protocol.pad_divisor > 1 else None,
        )

    def merge_preds(self, data_samples_list: list) -> list:
        (views,) = data_samples_list
        logits = torch.stack([view.seg_logits.data for view in views])
        self.scores = logits.softmax(1).mean(0)
        return super().merge_preds(data_samples_list)

    @torch.inference_mode()
    def forward(self, data: dict) -> Any:
        """The data sample, with its prediction, of what a pipeline made."""
        views = {name: [[x] for x in values] for name, values in data.items()}
        if len(views["inputs"]) > 1:
            (sample,) = self.test_step(views)
        else:
            only = {name: values[0] for name, values in views.items()}
            (sample,) = self.module.test_step(only)
            self.scores = sample.seg_logits.data
        return sample


def metrics(label: np.ndarray, pred: np.ndarray) -> dict[str, np.ndarray]:
    """IoUMetric's pixel counts of each image; its scores of their sums, in float64."""
    counts = [
        IoUMetric.intersect_and_union(
            torch.from_numpy(p), torch.from_numpy(t), evaluation.NUM_LABELS, 255
        )
        for t, p in zip(label, pred, strict=True)
    ]
    totals = [sum(x.double() for x in each) for each in zip(*counts, strict=True)]
    return {
        name: np.asarray(value)
        for name, value in IoUMetric.total_area_to_metrics(
            *totals, ["mIoU", "mDice"]
        ).items()
    }


def score_images(job_file: str) -> None:
    """Does a `Job`, with IoUMetric."""
    job = Job.load(job_file)
    weights = job.read_weights()
    bases = torch.from_numpy(weights.pop("bases"))
    variant = torch_peer.VARIANTS[job.variant]._replace(ham_channels=job.channels)
    model = torch_peer.build(variant, len(job.classes), nmf_rank=bases.shape[1])
    tensors = {name: torch.from_numpy(x) for name, x in weights.items()}
    left = model.load_state_dict(tensors, strict=False)
    assert all(name.endswith("num_batches_tracked") for name in left.missing_keys)
    assert not left.unexpected_keys, left.unexpected_keys
    model.decode_head.hamburger.ham._build_bases = lambda *_, **__: bases[None]
    peer = Evaluated(model, job.protocol)
    steps = ({"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"})
    pipeline = make_pipeline(job.protocol, *steps)
    metric = IoUMetric(iou_metrics=["mIoU", "mDice"])
    metric.dataset_meta = {"classes": job.classes}
    for i, (image, label) in enumerate(zip(job.images, job.labels, strict=True)):
        paths = {"img_path": image, "seg_map_path": label, "seg_fields": []}
        sample = peer(pipeline(paths | {"reduce_zero_label": False}))
        metric.process({}, [sample.to_dict()])
        job.save_map(i, sample.pred_sem_seg.data.squeeze().numpy())
    # As compute_metrics, which rounds the percentages to two digits.
    totals = [sum(areas) for areas in zip(*metric.results, strict=True)]
    scores = IoUMetric.total_area_to_metrics(*totals, metric.metrics)
    job.save_scores(
        {
            "miou": float(np.nanmean(scores["IoU"])),
            "mean_accuracy": float(np.nanmean(scores["Acc"])),
            "mean_dice": float(np.nanmean(scores["Dice"])),
            "accuracy": float(scores["aAcc"]),
        }
    )


if __name__ == "__main__":
    main()
