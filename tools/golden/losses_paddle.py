"""PaddleSeg's losses and gradients, for tests/training/test_losses_parity.py.

    PYTHONPATH=.:tests/models python -m tools.golden.losses_paddle

In float32. PaddleSeg 2.8.0 multiplies and adds integers and floats, of which Paddle 2
turned the right one into the type of the left, and Paddle 3 refuses: it is told to.

tests/training/golden/losses_paddle.npz:
    logits [2 9 7 6] in ±4; label [2 9 7] uint8, a fifth 255, class 4 absent
    logits_two [2 9 7 2], label_two [2 9 7]: of two classes, for the focal loss
    class_weights [6];  ohem_min_kept, of the batch
    <case>/loss (), <case>/grad [2 9 7 c] to the logits, of these cases:
      cross_entropy, cross_entropy_weighted
      ohem_rank, ohem_threshold, ohem_few     OhemCrossEntropyLoss, threshold 0.05 (so
                                              that min_kept rules), 0.7; and with more
                                              pixels to keep than there are
      focal                                   FocalLoss of logits_two, gamma 2, alpha
                                              0.25
      dice                                    smooth 1
      lovasz                                  LovaszSoftmaxLoss, present
"""

from collections.abc import Callable
from unittest import mock

import golden_fill
import numpy as np
import paddle
from paddleseg.models import losses

from tools.golden import files

NUM_CLASSES, ABSENT = 6, 4
SIZE = (2, 9, 7)
CLASS_WEIGHTS = (0.5, 2.0, 1.0, 0.25, 3.0, 1.5)
MIN_KEPT = 40


def main() -> None:
    tensor = paddle.Tensor
    with (
        mock.patch.object(tensor, "__mul__", as_paddle_2(tensor.__mul__)),
        mock.patch.object(tensor, "__add__", as_paddle_2(tensor.__add__)),
    ):
        golden = losses_golden()
    files.save("tests/training/golden/losses_paddle.npz", golden)


def losses_golden() -> dict[str, np.ndarray]:
    """All that the module's docstring lists."""
    logits = golden_fill.uniform("paddle/logits", (*SIZE, NUM_CLASSES), -4.0, 4.0)
    two = golden_fill.uniform("paddle/logits_two", (*SIZE, 2), -4.0, 4.0)
    label, label_two = make_label(NUM_CLASSES), make_label(2)
    golden = {
        "logits": logits,
        "label": label,
        "logits_two": two,
        "label_two": label_two,
        "class_weights": np.asarray(CLASS_WEIGHTS, np.float32),
        "ohem_min_kept": np.asarray(MIN_KEPT),
    }

    def add(
        case: str,
        loss: Callable[[paddle.Tensor, paddle.Tensor], paddle.Tensor],
        logits: np.ndarray = logits,
        label: np.ndarray = label,
    ) -> None:
        x = paddle.to_tensor(logits.transpose(0, 3, 1, 2), stop_gradient=False)
        value = loss(x, paddle.to_tensor(label.astype(np.int64)))
        value.backward()
        golden[f"{case}/loss"] = np.asarray(value.item(), np.float32)
        grad = x.grad.numpy().transpose(0, 2, 3, 1)
        golden[f"{case}/grad"] = np.ascontiguousarray(grad)

    def ohem(threshold: float, min_kept: int = MIN_KEPT) -> paddle.nn.Layer:
        return losses.OhemCrossEntropyLoss(thresh=threshold, min_kept=min_kept)

    add("cross_entropy", losses.CrossEntropyLoss())
    add("cross_entropy_weighted", losses.CrossEntropyLoss(weight=CLASS_WEIGHTS))
    add("ohem_rank", ohem(0.05))
    add("ohem_threshold", ohem(0.7))
    add("ohem_few", ohem(0.05, label.size))
    add("focal", losses.FocalLoss(), two, label_two)
    add("dice", losses.DiceLoss())
    add("lovasz", losses.LovaszSoftmaxLoss())
    return golden


def as_paddle_2(operator: Callable) -> Callable:
    """The operator of two tensors, the right one cast to the type of the left."""

    def apply(left: paddle.Tensor, right: object) -> paddle.Tensor:
        if isinstance(right, paddle.Tensor):
            right = right.astype(left.dtype)
        return operator(left, right)

    return apply


def make_label(num_classes: int) -> np.ndarray:
    """Train ids uint8 [2 9 7] without class 4, a fifth of them 255."""
    draws = golden_fill.uniform(f"paddle/label{num_classes}", SIZE, 0.0, num_classes)
    label = np.where(np.floor(draws) == ABSENT, 0, np.floor(draws))
    ignored = golden_fill.uniform("paddle/ignored", SIZE, 0.0, 1.0) < 0.2
    return np.where(ignored, 255, label).astype(np.uint8)


if __name__ == "__main__":
    main()
