"""What an export must reproduce before anybody gets it."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segnext_jax.evaluation.metrics import Confusion, count_pixels
from segnext_jax.export.program import Function, Result

MAX_DIFFERENCE = 1e-3  # of logits or probabilities
MIN_EQUAL = 0.9999  # of the pixels
MAX_MIOU_DIFFERENCE = 1e-4  # 0.01 points

# Name; image, uint8 [h w 3] RGB; train ids, uint8 [h w], or None.
Sample = tuple[str, np.ndarray, np.ndarray | None]


class Figures(NamedTuple):
    """How an export compares with the native network."""

    num_images: int
    equal_pixels: float  # share of the pixels that get the same class
    max_difference: float | None  # absolute; None of classes
    miou: float | None  # of the labelled images, in 0…1
    native_miou: float | None

    def failures(self) -> list[str]:
        """What is wrong, by how much; NaN is wrong, too."""
        found = []
        if not self.equal_pixels >= MIN_EQUAL:
            found.append(
                f"{100 * self.equal_pixels:.4f} % of the pixels get the same class, "
                f"{100 * MIN_EQUAL} % must"
            )
        if self.max_difference is not None and not (
            self.max_difference <= MAX_DIFFERENCE
        ):
            found.append(
                f"values differ by up to {self.max_difference:.3g}, "
                f"{MAX_DIFFERENCE} is the limit"
            )
        if self.miou is not None and self.native_miou is not None:
            difference = abs(self.miou - self.native_miou)
            if not difference <= MAX_MIOU_DIFFERENCE:
                found.append(
                    f"mIoU is {100 * self.miou:.3f} % instead of "
                    f"{100 * self.native_miou:.3f} %, {100 * MAX_MIOU_DIFFERENCE} "
                    "points is the limit"
                )
        return found


def compare(
    run: Callable[[np.ndarray], np.ndarray],
    native: Function,
    samples: Iterable[Sample],
    result: Result,
    num_classes: int,
) -> Figures:
    """Runs both on all samples, one at a time.

    Args:
      run: the export in its own runtime: uint8 [1 h w 3] → its result.
      native: the same → logits.
      samples: at least one.
      result: what `run` returns.
      num_classes: of the network.
    """
    num_images = pixels = equal = 0
    largest = 0.0
    counts = np.zeros((2, num_classes, num_classes), np.int64)  # export, native
    for name, image, label in samples:
        got = run(image[None])
        expected, classes = _expect(native(jnp.asarray(image[None])), result)
        own = got if result == "classes" else np.argmax(got, axis=-1)
        if got.shape != expected.shape or got.dtype != expected.dtype:
            raise ValueError(
                f"{name}: the export returns {got.dtype} {got.shape}, "
                f"the native network {expected.dtype} {expected.shape}"
            )
        num_images += 1
        pixels += classes.size
        equal += int(np.sum(own == classes))
        if result != "classes":
            # np.maximum, unlike max, keeps a NaN.
            largest = float(np.maximum(largest, np.max(abs(got - expected))))
        if label is not None:
            for i, pred in enumerate((own, classes)):
                counts[i] += _count(label, pred, num_classes)
    miou, native_miou = (
        Confusion(c).compute()["miou"] if c.any() else None for c in counts
    )
    return Figures(
        num_images,
        equal / pixels,
        None if result == "classes" else largest,
        miou,
        native_miou,
    )


def _expect(logits: jax.Array, result: Result) -> tuple[np.ndarray, np.ndarray]:
    """What an export should return, and the classes."""
    classes = np.asarray(jnp.argmax(logits, axis=-1), np.uint8)
    if result == "classes":
        return classes, classes
    if result == "probabilities":
        logits = jax.nn.softmax(logits, axis=-1)
    return np.asarray(logits), classes


def _count(label: np.ndarray, pred: np.ndarray, num_classes: int) -> np.ndarray:
    everything = jnp.ones(1, bool)
    counts = count_pixels(
        jnp.asarray(label[None]), jnp.asarray(pred), everything, num_classes
    )
    return np.asarray(counts, np.int64)
