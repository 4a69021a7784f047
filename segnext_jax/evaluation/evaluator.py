"""The evaluations that training runs between steps and eval.py runs on its own."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from PIL import Image

from segnext_jax.evaluation.metrics import Confusion, TopK, count_top_k
from segnext_jax.evaluation.protocol import Protocol
from segnext_jax.evaluation.segmenter import Segmented, Segmenter
from segnext_jax.models.classifier import MSCANClassifier
from segnext_jax.models.segnext import SegNeXt, Variables
from segnext_jax.ops.normalize import normalize
from segnext_jax.parallel.mesh import (
    all_rows,
    compiler_options,
    local_rows,
    prefetch,
    replicated,
    spread,
)

Batch = dict[str, Any]


class Example(NamedTuple):
    image: np.ndarray  # [h w 3] uint8
    label: np.ndarray  # [h w] uint8 train ids
    pred: np.ndarray  # [h w] uint8


# index of the image in its source, then the fields of an Example
OnImage = Callable[[int, np.ndarray, np.ndarray, np.ndarray], None]


@dataclasses.dataclass(frozen=True)
class ImageCounts:
    """Pixels of every image by class, int64; the same on every process."""

    index: np.ndarray  # [n], ascending
    intersection: np.ndarray  # [n c]
    labelled: np.ndarray  # [n c]
    predicted: np.ndarray  # [n c]


class SegmentationEvaluation(NamedTuple):
    """The evaluation of a segmentation network."""

    confusion: Confusion
    images: ImageCounts
    examples: list[Example]  # the first images of this process

    @property
    def num_images(self) -> int:
        return len(self.images.index)


class SegmentationEvaluator:
    """Scores variables on a data set by a protocol; compiles once a bucket.

    The counts depend neither on batch size nor on the number of devices, bit for bit.
    """

    def __init__(
        self,
        model: SegNeXt,
        num_classes: int,
        mesh: Mesh,
        protocol: Protocol | None = None,
    ):
        self._num_classes = num_classes
        self._segmenter = Segmenter(model, protocol or Protocol(), mesh)

    def __call__(
        self,
        variables: Variables,
        batches: Iterable[Batch],
        *,
        num_examples: int = 0,
        key: jax.Array | None = None,
        on_image: OnImage | None = None,
    ) -> SegmentationEvaluation:
        """Every image of `batches` once.

        Args:
          variables: weights, on all devices.
          batches: what `data/evaluation.py` makes; this process's share of them.
          num_examples: images of this process to return with their predictions.
          key: draws the NMF's bases, for image i from `fold_in(key, i)`; None: the
            usual bases, the same for all.
          on_image: called with every image of this process, upright and without
            padding, while the next are computed. Without it predictions stay on the
            device.
        """
        c = self._num_classes
        total = np.zeros((c, c), np.int64)
        parts: list[ImageCounts] = []
        examples: list[Example] = []
        for batch, start, group, result in self._results(variables, batches, key):
            counts, index, mask = all_rows(
                (result.counts, group["index"], group["mask"])
            )
            counts = counts[mask].astype(np.int64)
            total += counts.sum(axis=0)
            parts.append(
                ImageCounts(
                    index[mask].astype(np.int64),
                    np.diagonal(counts, axis1=1, axis2=2),
                    counts.sum(axis=2),
                    counts.sum(axis=1),
                )
            )
            if on_image is None and len(examples) >= num_examples:
                continue
            for row, pred in enumerate(local_rows(result.pred), start):
                if row >= len(batch["mask"]) or not batch["mask"][row]:
                    continue
                example = _example(batch, row, pred)
                if len(examples) < num_examples:
                    examples.append(example)
                if on_image is not None:
                    on_image(int(batch["index"][row]), *example)
        return SegmentationEvaluation(Confusion(total), _join(parts, c), examples)

    def _results(
        self, variables: Variables, batches: Iterable[Batch], key: jax.Array | None
    ) -> Iterator[tuple[Batch, int, Batch, Segmented]]:
        """(batch, its first row of the group, group, result): one group ahead."""
        ahead: tuple[Batch, int, Batch, Segmented] | None = None
        for batch in batches:
            start = 0
            for group in self._segmenter.groups(batch):
                shape = batch["label"].shape[1:]
                result = self._segmenter.run(variables, group, shape, key=key)
                current, ahead = ahead, (batch, start, group, result)
                if current is not None:
                    yield current
                start += self._segmenter.group_size
        if ahead is not None:
            yield ahead


class ClassificationEvaluator:
    """Scores variables on a data set by top-1 and top-5."""

    def __init__(self, model: MSCANClassifier, mesh: Mesh):
        def evaluate(variables, batch):
            image = normalize(batch["image"])
            # Names the axes that share the batch, for ops/partition.py.
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                logits: Any = model.apply(variables, image, train=False)
            return count_top_k(logits, batch["label"], batch["mask"])

        self._mesh = mesh
        self._evaluate = jax.jit(
            evaluate,
            out_shardings=replicated(mesh),
            compiler_options=compiler_options(mesh),
        )

    def __call__(
        self, variables: Variables, batches: Iterable[dict[str, np.ndarray]]
    ) -> TopK:
        """Every image of `batches` (image, label, mask) once."""
        total = TopK(np.zeros(3, np.int64))
        for batch in prefetch(batches, self._mesh, spread):
            total = total.merge(TopK.of(self._evaluate(variables, batch)))
        return total


def _join(parts: list[ImageCounts], num_classes: int) -> ImageCounts:
    if not parts:
        empty = np.zeros((0, num_classes), np.int64)
        return ImageCounts(np.zeros(0, np.int64), empty, empty, empty)
    order = np.argsort(np.concatenate([part.index for part in parts]))
    fields = (field.name for field in dataclasses.fields(ImageCounts))
    return ImageCounts(
        *(np.concatenate([getattr(p, name) for p in parts])[order] for name in fields)
    )


def _example(batch: Batch, row: int, pred: np.ndarray) -> Example:
    """One image of a batch, without padding, at the size of its label."""
    label = batch["label"][row]
    sizes = [view.shape[1:3] for view in batch["views"]]
    if "size" in batch:
        h, w = batch["size"][row]
        label, pred = label[:h, :w], pred[:h, :w]
        sizes = [tuple(size) for size in batch["view_sizes"][row]]
    nearest = int(np.argmin([abs(h - label.shape[0]) for h, _ in sizes]))
    h, w = sizes[nearest]
    view = np.clip(np.rint(batch["views"][nearest][row, :h, :w]), 0, 255)
    image = Image.fromarray(view.astype(np.uint8))
    image = image.resize(label.shape[::-1], Image.Resampling.BILINEAR)
    return Example(np.asarray(image), label, pred)
