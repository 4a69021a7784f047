"""The evaluations that training runs between steps and eval.py runs on its own."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from segnext_jax.evaluation.inference import predict_whole
from segnext_jax.evaluation.metrics import Confusion, TopK, count_pixels, count_top_k
from segnext_jax.models.classifier import MSCANClassifier
from segnext_jax.models.segnext import SegNeXt, Variables
from segnext_jax.ops.normalize import normalize
from segnext_jax.parallel.mesh import batch_sharded, prefetch, replicated


class Example(NamedTuple):
    image: np.ndarray  # [h w 3] uint8
    label: np.ndarray  # [h w] uint8 train ids
    pred: np.ndarray  # [h w] int32


class SegmentationEvaluation(NamedTuple):
    """The evaluation of a segmentation network."""

    confusion: Confusion
    num_images: int
    examples: list[Example]  # the first images of this process


class SegmentationEvaluator:
    """Scores variables on a data set; compiles once per image size."""

    def __init__(self, model: SegNeXt, num_classes: int, mesh: Mesh):
        def evaluate(variables, batch):
            pred = predict_whole(model, variables, batch["image"])
            counts = count_pixels(batch["label"], pred, batch["mask"], num_classes)
            return counts, batch["mask"].sum(), pred

        self._mesh = mesh
        self._num_classes = num_classes
        self._evaluate = jax.jit(
            evaluate,
            in_shardings=(replicated(mesh), batch_sharded(mesh)),
            out_shardings=(replicated(mesh), replicated(mesh), batch_sharded(mesh)),
        )

    def __call__(
        self,
        variables: Variables,
        batches: Iterable[dict[str, np.ndarray]],
        *,
        num_examples: int = 0,
    ) -> SegmentationEvaluation:
        """Every image of `batches` (image, label, mask) once."""
        empty = np.zeros((self._num_classes, self._num_classes), np.int64)
        confusion, num_images = Confusion(empty), 0
        examples: list[Example] = []
        for batch in prefetch(batches, self._mesh):
            counts, images, pred = self._evaluate(variables, batch)
            confusion = confusion.merge(Confusion.of(counts))
            num_images += int(images)
            if len(examples) < num_examples:
                examples += _examples(batch, pred)
        return SegmentationEvaluation(confusion, num_images, examples[:num_examples])


class ClassificationEvaluator:
    """Scores variables on a data set by top-1 and top-5."""

    def __init__(self, model: MSCANClassifier, mesh: Mesh):
        def evaluate(variables, batch):
            logits: Any = model.apply(variables, normalize(batch["image"]), train=False)
            return count_top_k(logits, batch["label"], batch["mask"])

        self._mesh = mesh
        self._evaluate = jax.jit(
            evaluate,
            in_shardings=(replicated(mesh), batch_sharded(mesh)),
            out_shardings=replicated(mesh),
        )

    def __call__(
        self, variables: Variables, batches: Iterable[dict[str, np.ndarray]]
    ) -> TopK:
        """Every image of `batches` (image, label, mask) once."""
        total = TopK(np.zeros(3, np.int64))
        for batch in prefetch(batches, self._mesh):
            total = total.merge(TopK.of(self._evaluate(variables, batch)))
        return total


def _examples(batch, pred) -> list[Example]:
    image, label, mask, pred = (
        _local_rows(x) for x in (batch["image"], batch["label"], batch["mask"], pred)
    )
    return [Example(image[i], label[i], pred[i]) for i in np.flatnonzero(mask)]


def _local_rows(x: jax.Array) -> np.ndarray:
    shards = sorted(x.addressable_shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])
