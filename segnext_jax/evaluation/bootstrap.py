"""How much a score owes to the choice of images."""

import numpy as np

from segnext_jax.evaluation.metrics import iou, mean

_CHUNK = 64  # draws at once, which bounds the memory


def miou_interval(
    intersection: np.ndarray,
    labelled: np.ndarray,
    predicted: np.ndarray,
    *,
    absent: str = "skip",
    level: float = 0.95,
    num_draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap interval of the mIoU over images (Efron's percentiles).

    Every draw takes n of the n images, with repetition, and sums their pixels.

    Args:
      intersection, labelled, predicted: int [n c], pixels by image and class.
      absent: what an absent class counts: see `metrics.iou`.
      level: of confidence, 0…1.
      num_draws: that the percentiles are taken of.
      seed: of the draws.

    Returns:
      Lower and upper bound, 0…1; NaN if a draw may have nothing to score.
    """
    rng = np.random.default_rng(seed)
    counts = [np.asarray(x, np.float64) for x in (intersection, labelled, predicted)]
    num_images = len(intersection)
    if num_images == 0:
        return float("nan"), float("nan")
    scores: list[np.ndarray] = []
    for start in range(0, num_draws, _CHUNK):
        taken = rng.multinomial(
            num_images,
            np.full(num_images, 1 / num_images),
            size=min(_CHUNK, num_draws - start),
        )
        # Products of whole numbers below 2^53: exact in float64.
        sums = [taken @ x for x in counts]
        scores.append(mean(iou(sums[0], sums[1], sums[2], absent)))
    tail = 50 * (1 - level)
    low, high = np.percentile(np.concatenate(scores), [tail, 100 - tail])
    return float(low), float(high)
