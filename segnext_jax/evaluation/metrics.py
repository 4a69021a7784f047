"""Scores of both tasks from integer counts, which add up exactly."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics
from flax import struct


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

    def compute(self) -> dict[str, Any]:
        """Scores in 0…1; a class that neither occurs nor is predicted is NaN.

        `iou`, `class_accuracy`, `share` (of the labelled pixels) are [c]; `miou` is the
        mean over classes that are not NaN, `accuracy` over pixels.
        """
        correct = np.diag(self.counts).astype(np.float64)
        labelled = self.counts.sum(axis=1)
        union = labelled + self.counts.sum(axis=0) - correct
        with np.errstate(invalid="ignore"):
            iou = correct / union
            class_accuracy = correct / labelled
            share = labelled / labelled.sum()
            accuracy = correct.sum() / labelled.sum()
        occurs = ~np.isnan(iou)
        miou = iou[occurs].mean() if occurs.any() else np.nan
        return {
            "miou": float(miou),
            "accuracy": float(accuracy),
            "iou": iou,
            "class_accuracy": class_accuracy,
            "share": share,
        }


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
