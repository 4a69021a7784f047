"""Scores of both tasks from integer counts, which add up exactly."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics
from flax import struct

ABSENT = ("skip", "zero")  # of a class that neither occurs nor is predicted


def count_pixels(
    label: jax.Array, pred: jax.Array, mask: jax.Array, num_classes: int
) -> jax.Array:
    """Counts pixels by (label, prediction).

    Args:
      label: [b h w] train ids; ids that are no class (255) are not counted.
      pred: [b h w] int, predicted classes.
      mask: [b] bool, False = padding example.
      num_classes: c.

    Returns:
      [c c] int32, rows are labels. Exact below 2^31 pixels a call.
    """
    label = label.astype(jnp.int32)
    counted = mask[:, None, None] & (label < num_classes)
    cell = jnp.where(counted, label * num_classes + pred, num_classes**2)
    counts = jnp.bincount(cell.reshape(-1), length=num_classes**2 + 1)
    return counts[:-1].reshape(num_classes, num_classes)


@struct.dataclass
class Confusion(metrics.Metric):
    """Confusion matrix [c c], int64 on the host, rows are labels."""

    counts: np.ndarray

    @classmethod
    def of(cls, counts: jax.Array) -> "Confusion":
        return cls(np.asarray(counts, np.int64))

    def merge(self, other: "Confusion") -> "Confusion":
        return Confusion(self.counts + other.counts)

    def compute(self, absent: str = "skip") -> dict[str, Any]:
        """Scores in 0…1, NaN where there is nothing to score (kappa in -1…1).

        `iou`, `dice`, `class_accuracy` (recall) and `share` (of the labelled pixels)
        are [c]; `miou`, `mean_dice` and `mean_accuracy` are their means over classes
        that are not NaN; `accuracy` is of pixels, `kappa` is Cohen's.

        Args:
          absent: what a class that neither occurs nor is predicted counts: see `iou`.
        """
        correct = np.diag(self.counts)
        labelled, predicted = self.counts.sum(axis=1), self.counts.sum(axis=0)
        class_iou = iou(correct, labelled, predicted, absent)
        class_dice = divide(2 * class_iou, 1 + class_iou)
        class_accuracy = divide(correct, labelled)
        total = labelled.sum()
        accuracy = divide(correct.sum(), total)
        # In float64: the products of a whole data set overflow int64.
        share = divide(labelled, total)
        by_chance = share @ divide(predicted, total)
        return {
            "miou": float(mean(class_iou)),
            "accuracy": float(accuracy),
            "mean_accuracy": float(mean(class_accuracy)),
            "mean_dice": float(mean(class_dice)),
            "kappa": float(divide(accuracy - by_chance, 1 - by_chance)),
            "iou": class_iou,
            "class_accuracy": class_accuracy,
            "dice": class_dice,
            "share": share,
        }


def iou(
    intersection: np.ndarray,
    labelled: np.ndarray,
    predicted: np.ndarray,
    absent: str = "skip",
) -> np.ndarray:
    """Intersection over union of counts [… c] of pixels, in float64.

    Args:
      absent: what a class that neither occurs nor is predicted has: "skip" NaN, which
        `mean` leaves out (mmsegmentation); "zero" 0 (PaddleSeg 2.8).

    Raises ValueError for another `absent`.
    """
    if absent not in ABSENT:
        raise ValueError(
            f"config.eval.absent_class is {absent!r}: use one of {', '.join(ABSENT)}"
        )
    ratio = divide(intersection, labelled + predicted - intersection)
    return ratio if absent == "skip" else np.nan_to_num(ratio)


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b in float64; NaN, without a warning, where b is 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.equal(b, 0), np.nan, np.divide(a, b, dtype=np.float64))


def mean(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN if nothing is left."""
    known = ~np.isnan(values)
    return divide(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


def count_top_k(logits: jax.Array, label: jax.Array, mask: jax.Array) -> jax.Array:
    """Counts images whose class is the likeliest, and among the five likeliest.

    Classes with equal logits are ranked by their number, as argmax does; a NaN ranks
    before the label.

    Args:
      logits: [b c] float.
      label: [b] int, classes.
      mask: [b] bool, False = padding example.

    Returns:
      [3] int32: right by top-1, right by top-5, all images.
    """
    own = jnp.take_along_axis(logits, label[:, None], axis=1)
    is_later = jnp.arange(logits.shape[1]) >= label[:, None]
    is_behind = (logits < own) | ((logits == own) & is_later)
    rank = jnp.sum(~is_behind, axis=1)
    right = [jnp.sum(mask & (rank < k)) for k in (1, 5)]
    return jnp.array([*right, jnp.sum(mask)], jnp.int32)


@struct.dataclass
class TopK(metrics.Metric):
    """Right by top-1, right by top-5, all images: [3], int64 on the host."""

    counts: np.ndarray

    @classmethod
    def of(cls, counts: jax.Array) -> "TopK":
        return cls(np.asarray(counts, np.int64))

    def merge(self, other: "TopK") -> "TopK":
        return TopK(self.counts + other.counts)

    @property
    def num_images(self) -> int:
        return int(self.counts[2])

    def compute(self) -> dict[str, float]:
        """`top1` and `top5` in 0…1; NaN without images."""
        with np.errstate(invalid="ignore"):
            top1, top5, _ = self.counts / self.counts[2]
        return {"top1": float(top1), "top5": float(top5)}
