"""Segmentation scores from one integer confusion matrix."""

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
