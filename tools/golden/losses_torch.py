"""mmsegmentation's losses and gradients, for tests/training/test_losses_parity.py.

    PYTHONPATH=.:tests/models python -m tools.golden.losses_torch

Computed in float64, stored as float32. tests/training/golden/losses_torch.npz:
    logits [2 9 7 6] in ±4; label [2 9 7] uint8, a fifth 255, class 4 absent;
    label_full: the same without 255
    class_weights [6];  ohem_min_kept, of an image
    <case>/loss (), <case>/grad [2 9 7 6] to the logits, of these cases:
      cross_entropy_valid, cross_entropy_all        avg_non_ignore True, False
      cross_entropy_weighted_all                    divided by all pixels, as 0.24 did
      cross_entropy_weighted_full                   of label_full, divided by weights
      ohem_rank_{valid,all}, ohem_threshold_{valid,all}   OHEMPixelSampler, threshold
                                                    0.05 (so that min_kept rules), 0.7
      focal, focal_weighted                         gamma 2, alpha 0.5
      focal_other                                   gamma 0.5, alpha 0.25
      lovasz                                        multi_class, present, whole batch
mmseg 1.2.2's FocalLoss on CPU takes the wrong column of the one-hot labels; here its
py_sigmoid_focal_loss gets what its CUDA branch would.
"""

from collections.abc import Callable
from types import SimpleNamespace
from unittest import mock

import golden_fill
import numpy as np
import torch
import torch.nn.functional as F

from benchmarks import torch_peer
from tools.golden import files

NUM_CLASSES, ABSENT = 6, 4
SIZE = (2, 9, 7)
CLASS_WEIGHTS = (0.5, 2.0, 1.0, 0.25, 3.0, 1.5)
MIN_KEPT = 20


def main() -> None:
    torch.set_default_dtype(torch.float64)
    files.save("tests/training/golden/losses_torch.npz", losses_golden())


def losses_golden() -> dict[str, np.ndarray]:
    """All that the module's docstring lists."""
    torch_peer.build(torch_peer.VARIANTS["T"], NUM_CLASSES)  # mmseg on mmcv-lite
    from mmseg.models.losses import CrossEntropyLoss, LovaszLoss
    from mmseg.models.losses.focal_loss import py_sigmoid_focal_loss
    from mmseg.structures.sampler import OHEMPixelSampler

    logits = golden_fill.uniform("loss/logits", (*SIZE, NUM_CLASSES), -4.0, 4.0)
    full, label = make_labels()
    golden = {
        "logits": logits,
        "label": label,
        "label_full": full,
        "class_weights": np.asarray(CLASS_WEIGHTS, np.float32),
        "ohem_min_kept": np.asarray(MIN_KEPT),
    }
    full_t, label_t = (torch.from_numpy(x).long() for x in (full, label))
    weights = list(CLASS_WEIGHTS)

    def add(
        case: str,
        loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        target: torch.Tensor = label_t,
    ) -> None:
        x = torch.from_numpy(logits).double().permute(0, 3, 1, 2).contiguous()
        value = loss(x.requires_grad_(), target)
        (grad,) = torch.autograd.grad(value, x)
        golden[f"{case}/loss"] = np.asarray(value.item(), np.float32)
        grad = grad.permute(0, 2, 3, 1).numpy().astype(np.float32)
        golden[f"{case}/grad"] = np.ascontiguousarray(grad)

    def cross_entropy(normalizer: str, class_weight: list[float] | None = None):
        loss = CrossEntropyLoss(
            class_weight=class_weight, avg_non_ignore=normalizer == "valid"
        )
        return lambda x, y, **options: loss(x, y, ignore_index=255, **options)

    def ohem(normalizer: str, threshold: float):
        context = SimpleNamespace(ignore_index=255)
        sampler = OHEMPixelSampler(context, thresh=threshold, min_kept=MIN_KEPT)
        loss = cross_entropy(normalizer)
        return lambda x, y: loss(x, y, weight=sampler.sample(x, y.unsqueeze(1)))

    def focal(**options):
        def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            valid = (y != 255).view(-1, 1)
            y = torch.where(y == 255, 0, y).view(-1)
            return py_sigmoid_focal_loss(
                x.permute(0, 2, 3, 1).reshape(-1, NUM_CLASSES),
                F.one_hot(y, NUM_CLASSES),
                valid_mask=valid,
                **options,
            )

        return loss

    for normalizer in ("valid", "all"):
        add(f"cross_entropy_{normalizer}", cross_entropy(normalizer))
        add(f"ohem_rank_{normalizer}", ohem(normalizer, 0.05))
        add(f"ohem_threshold_{normalizer}", ohem(normalizer, 0.7))
    weighted = cross_entropy("all", weights)
    add(
        "cross_entropy_weighted_all",
        lambda x, y: weighted(x, y, avg_factor=label.size),
    )
    add("cross_entropy_weighted_full", weighted, full_t)
    add("focal", focal())
    add("focal_weighted", focal(class_weight=weights))
    add("focal_other", focal(gamma=0.5, alpha=0.25))
    lovasz = LovaszLoss(reduction="none")
    # It casts labels by .float(), and then multiplies them with the logits' type.
    with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
        add("lovasz", lambda x, y: lovasz(x, y, ignore_index=255))
    return golden


def make_labels() -> tuple[np.ndarray, np.ndarray]:
    """Train ids uint8 without class 4: all labelled, and a fifth 255."""
    draws = golden_fill.uniform("loss/label", SIZE, 0.0, NUM_CLASSES)
    label = np.where(np.floor(draws) == ABSENT, 0, np.floor(draws)).astype(np.uint8)
    ignored = golden_fill.uniform("loss/ignored", SIZE, 0.0, 1.0) < 0.2
    return label, np.where(ignored, 255, label).astype(np.uint8)


if __name__ == "__main__":
    main()
