"""What is seen of images while they are evaluated: contours, and which are worst."""

import heapq
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import jax
import numpy as np
from jax.experimental import multihost_utils

from segnext_jax.evaluation.boundary import count_boundaries
from segnext_jax.evaluation.metrics import iou, mean

_THREADS = 4  # OpenCV and NumPy leave Python's lock free
_MOST_WAITING = 8  # images, which bounds the memory


@dataclass(frozen=True)
class Inspected:
    """An image with its prediction."""

    index: int  # in the data set
    image: np.ndarray  # uint8 [h w 3] RGB
    label: np.ndarray  # uint8 [h w] train ids, 255 = void
    pred: np.ndarray  # uint8 [h w] train ids
    miou: float  # of this image alone, 0…1


class Inspection:
    """Counts boundaries and keeps the images with the lowest mIoU of their own.

    Call it as the evaluator's `on_image`; it works in threads, a few images at a time.
    """

    def __init__(self, num_classes: int, num_worst: int = 0) -> None:
        self._num_classes = num_classes
        self._num_worst = num_worst
        self._boundary = np.zeros((2, num_classes), np.int64)
        # Ties go to the first image; images themselves cannot be compared.
        self._worst: list[tuple[float, int, Inspected]] = []
        self._pool = ThreadPoolExecutor(_THREADS, "inspection")
        self._waiting: deque[Future[tuple[np.ndarray, Inspected]]] = deque()

    def __call__(
        self, index: int, image: np.ndarray, label: np.ndarray, pred: np.ndarray
    ) -> None:
        self._waiting.append(
            self._pool.submit(_inspect, index, image, label, pred, self._num_classes)
        )
        if len(self._waiting) > _MOST_WAITING:
            self._take()

    def boundary(self) -> np.ndarray:
        """Intersection and union of the boundaries, int64 [2 c], of all processes."""
        self._finish()
        if jax.process_count() == 1:
            return self._boundary
        # As two halves: JAX has no 64 bits unless told so.
        halves = np.stack(divmod(self._boundary, 1 << 31)).astype(np.int32)
        high, low = np.asarray(multihost_utils.process_allgather(halves), np.int64).sum(
            axis=0
        )
        return (high << 31) + low

    def worst(self) -> list[Inspected]:
        """Of the images of all processes, the worst first; none without a label."""
        self._finish()
        worst = [each for _, _, each in sorted(self._worst, reverse=True)]
        return worst if jax.process_count() == 1 else _of_all(worst, self._num_worst)

    def _finish(self) -> None:
        while self._waiting:
            self._take()

    def _take(self) -> None:
        counts, inspected = self._waiting.popleft().result()
        self._boundary += counts
        if not self._num_worst or np.isnan(inspected.miou):
            return
        # Copies: these arrays may be parts of batches.
        kept = replace(
            inspected,
            image=inspected.image.copy(),
            label=inspected.label.copy(),
            pred=inspected.pred.copy(),
        )
        heapq.heappush(self._worst, (-kept.miou, -kept.index, kept))
        if len(self._worst) > self._num_worst:
            heapq.heappop(self._worst)


def _of_all(mine: list[Inspected], num_worst: int) -> list[Inspected]:
    """The worst of what each process has; images come over one after the other."""
    table = np.full((num_worst, 4), np.nan)
    for row, each in enumerate(mine):
        table[row] = each.miou, each.index, *each.label.shape
    # In two parts, as above.
    tables = multihost_utils.process_allgather(table.view(np.int32))
    rows = [
        (*row, process)
        for process, table in enumerate(np.asarray(tables).view(np.float64))
        for row in table.tolist()
        if not np.isnan(row[0])
    ]
    by_index = {each.index: each for each in mine}
    worst = []
    for miou, index, h, w, process in sorted(rows)[:num_worst]:
        pixels = np.zeros((int(h), int(w), 5), np.uint8)
        if is_mine := process == jax.process_index():
            each = by_index[int(index)]
            pixels = np.dstack([each.image, each.label, each.pred])
        pixels = multihost_utils.broadcast_one_to_all(pixels, is_source=is_mine)
        image, label, pred = pixels[..., :3], pixels[..., 3], pixels[..., 4]
        worst.append(Inspected(int(index), image, label, pred, miou))
    return worst


def _inspect(index, image, label, pred, num_classes) -> tuple[np.ndarray, Inspected]:
    valid = label < num_classes
    correct, labelled, predicted = (
        np.bincount(ids, minlength=num_classes)[:num_classes]
        for ids in (label[valid & (label == pred)], label[valid], pred[valid])
    )
    miou = float(mean(iou(correct, labelled, predicted)))
    boundary = count_boundaries(label, pred, num_classes)
    return boundary, Inspected(index, image, label, pred, miou)
