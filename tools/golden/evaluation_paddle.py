"""PaddleSeg's evaluation, by its own inference and metrics.

    PYTHONPATH=.:tests/models python -m tools.golden.evaluation_paddle

The model is the small one of files.py, in float32 (its windows are summed in float64).

tests/evaluation/golden/paddleseg.npz: as mmseg.npz (see evaluation_torch.py), but
    <case>/scores [h/7 w/7 19]       of averaged logits
    metrics/label, metrics/pred [3 30 40]                  uint8, see evaluation.py
    metrics/iou, dice [8], miou, mdice, acc, kappa ()      0 for an absent class
"""

import itertools
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import paddle
from paddleseg import transforms
from paddleseg.core import evaluate, infer
from paddleseg.datasets import Dataset
from paddleseg.utils import metrics

from benchmarks import paddle_peer
from tools.golden import evaluation, files, from_paddle
from tools.golden.augment_paddle import MEAN, STDDEV
from tools.golden.evaluation import Case, Job, Protocol

CROP, STRIDE = evaluation.WINDOWS
CASES = (
    Case("whole", Protocol()),
    Case("slide", Protocol("slide", CROP, STRIDE)),
    Case("scales", Protocol(scales=(0.75, 1.25), flip=True)),
)


def main() -> None:
    variant = paddle_peer.Variant(
        files.TINY_DIMS, files.TINY_DEPTHS, files.TINY_CHANNELS
    )
    model = from_paddle.filled_model(variant, files.TINY_RANK)
    golden = {"image": evaluation.image(CASES[0])}
    for case in CASES:
        image = evaluation.image(case).astype("float32")
        image = transforms.Normalize(MEAN, STDDEV)({"img": image})["img"]
        pred, scores = infer.aug_inference(
            model,
            paddle.to_tensor(image.transpose(2, 0, 1)[None]),
            trans_info=[],
            **options(case.protocol),
        )
        scores = scores[0].transpose([1, 2, 0])
        golden |= evaluation.golden(case, scores.numpy(), pred[0, 0].numpy())
    label, pred = evaluation.label_maps()
    golden |= {"metrics/label": label, "metrics/pred": pred}
    golden |= {f"metrics/{n}": x for n, x in score(label, pred).items()}
    files.save("tests/evaluation/golden/paddleseg.npz", golden)


def options(protocol: Protocol) -> dict[str, Any]:
    """Arguments of `aug_inference` and of `evaluate`."""
    return {
        "scales": list(protocol.scales),
        "flip_horizontal": protocol.flip,
        "is_slide": protocol.mode == "slide",
        "crop_size": protocol.crop_size[::-1],  # (width, height)
        "stride": protocol.stride[::-1],
    }


def score(label: np.ndarray, pred: np.ndarray) -> dict[str, np.ndarray]:
    """What `evaluate` prints of all images together."""
    with concat_of_scalars():
        areas = metrics.calculate_area(
            paddle.to_tensor(pred.astype("int64")),
            paddle.to_tensor(label.astype("int64")),
            evaluation.NUM_LABELS,
        )
    class_iou, miou = metrics.mean_iou(*areas)
    class_dice, mdice = metrics.dice(*areas)
    accuracy, _, _ = metrics.class_measurement(*areas)
    scores = {
        "iou": class_iou,
        "dice": class_dice,
        "miou": miou,
        "mdice": mdice,
        "acc": accuracy,
        "kappa": metrics.kappa(*areas),
    }
    return {name: np.asarray(value) for name, value in scores.items()}


def score_images(job_file: str) -> None:
    """Does a `Job`, by paddleseg.core.evaluate."""
    job = Job.load(job_file)
    weights = job.read_weights()
    bases = paddle.to_tensor(weights.pop("bases"))
    variant = paddle_peer.VARIANTS[job.variant]._replace(ham_channels=job.channels)
    model = paddle_peer.build(variant, len(job.classes), nmf_rank=bases.shape[1])
    missing, unexpected = model.set_state_dict(weights)
    assert not missing and not unexpected, (missing, unexpected)
    model.decode_head.hamburger.ham._build_bases = lambda *_: bases.unsqueeze(0)
    pairs = Path(job.output, "pairs.txt")
    lines = zip(job.images, job.labels, strict=True)
    pairs.write_text("".join(f"{image}\t{label}\n" for image, label in lines))
    dataset = Dataset(
        mode="val",
        dataset_root="/",
        transforms=[transforms.Normalize(MEAN, STDDEV)],
        num_classes=len(job.classes),
        val_path=str(pairs),
        separator="\t",
    )
    calculate_area = metrics.calculate_area
    indices = itertools.count()

    def save_and_calculate(pred: paddle.Tensor, *args: Any, **kwargs: Any) -> Any:
        job.save_map(next(indices), pred[0, 0].numpy())
        return calculate_area(pred, *args, **kwargs)

    with (
        mock.patch.object(metrics, "calculate_area", save_and_calculate),
        concat_of_scalars(),
    ):
        miou, accuracy, _, _, kappa = evaluate(
            model,
            dataset,
            aug_eval=len(job.protocol.scales) > 1 or job.protocol.flip,
            print_detail=False,
            **options(job.protocol),
        )
    scores = {"miou": miou, "accuracy": accuracy, "kappa": kappa}
    job.save_scores({name: float(value) for name, value in scores.items()})


def concat_of_scalars() -> Any:
    """A context in which paddle.concat takes sums: in Paddle 2.4 they had one axis."""
    concat = paddle.concat

    def concat_or_stack(x: list, axis: int = 0) -> paddle.Tensor:
        return concat(x, axis) if x[0].ndim else paddle.stack(x)

    return mock.patch.object(paddle, "concat", concat_or_stack)


if __name__ == "__main__":
    main()
