"""Segmentation as a task: every pixel has a class, scored by the mean IoU."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segnext_jax.evaluation.evaluator import (
    SegmentationEvaluation,
    SegmentationEvaluator,
)
from segnext_jax.evaluation.protocol import Protocol
from segnext_jax.models.segnext import Variables, make_model
from segnext_jax.ops.resize import resize_bilinear
from segnext_jax.training.augment import augment
from segnext_jax.training.losses import make_loss
from segnext_jax.visual.overlay import panel, save_predictions
from segnext_jax.visual.score_sections import (
    Comparison,
    class_section,
    comparison_section,
    confusion_section,
)
from segnext_jax.visual.tables import per_class_table, percent

_NUM_EXAMPLES = 4  # images shown at every evaluation


class Segmentation:
    """SegNeXt on labelled pixels. Implements `task.Task`."""

    score = "miou"

    def __init__(
        self,
        config: ConfigDict,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]],
    ):
        self.model = make_model(config.model, len(classes))
        self._config = config
        self._loss = make_loss(config.loss, len(classes))
        self._classes = list(classes)
        self._palette = palette

    @property
    def example(self) -> dict[str, jax.ShapeDtypeStruct]:
        h, w = self._config.data.crop_size
        return {
            "image": jax.ShapeDtypeStruct((h, w, 3), jnp.uint8),
            "label": jax.ShapeDtypeStruct((h, w), jnp.uint8),
            "size": jax.ShapeDtypeStruct((2,), jnp.int32),
            "unreadable": jax.ShapeDtypeStruct((), jnp.int32),
        }

    def augment(self, batch: dict[str, jax.Array], key: jax.Array):
        config = self._config
        return augment(batch, key, config.augment)

    def forward(
        self,
        variables: Variables,
        image: jax.Array,
        rngs: dict[str, jax.Array],
        axis_name: str | None = None,
    ) -> tuple[jax.Array, Any]:
        config = self._config
        model = make_model(
            config.model, len(self._classes), remat=config.remat, axis_name=axis_name
        )
        logits, updated = model.apply(
            variables, image, train=True, rngs=rngs, mutable=["batch_stats"]
        )
        size = image.shape[1:3]
        return resize_bilinear(logits, size, axis_name), updated["batch_stats"]

    def loss(self, logits: jax.Array, target: jax.Array):
        return self._loss(logits, target)

    def make_evaluator(self, mesh: Mesh) -> partial[SegmentationEvaluation]:
        protocol = Protocol.from_config(self._config.eval)
        evaluator = SegmentationEvaluator(
            self.model, len(self._classes), mesh, protocol
        )
        return partial(evaluator, num_examples=_NUM_EXAMPLES)

    def metrics(self, evaluation: SegmentationEvaluation) -> dict[str, Any]:
        scores = evaluation.confusion.compute(self._config.eval.absent_class)
        return {
            "miou": scores["miou"],
            "accuracy": scores["accuracy"],
            "iou": dict(zip(self._classes, scores["iou"], strict=True)),
        }

    def summary(self, evaluation: SegmentationEvaluation) -> str:
        scores = evaluation.confusion.compute(self._config.eval.absent_class)
        return (
            f"mIoU {percent(scores['miou'])} %, pixel accuracy"
            f" {percent(scores['accuracy'])} % on {evaluation.num_images} images"
        )

    def details(self, evaluation: SegmentationEvaluation) -> str:
        scores = evaluation.confusion.compute(self._config.eval.absent_class)
        table = per_class_table(
            self._classes, scores["iou"], scores["class_accuracy"], scores["share"]
        )
        return f"{table}\n{self.summary(evaluation)}"

    def panels(self, evaluation: SegmentationEvaluation) -> list[np.ndarray]:
        return [
            panel(example.image, example.label, example.pred, self._palette)
            for example in evaluation.examples
        ]

    def sections(self, evaluation: SegmentationEvaluation) -> list[str]:
        scores = evaluation.confusion.compute(self._config.eval.absent_class)
        columns = {
            "IoU": scores["iou"],
            "accuracy": scores["class_accuracy"],
            "Dice": scores["dice"],
            "pixels": scores["share"],
        }
        counts = evaluation.confusion.counts
        comparisons = [Comparison(*example) for example in evaluation.examples]
        note = "The first images of the validation data."
        return [
            class_section(self._classes, self._palette, columns),
            confusion_section(counts, self._classes),
            comparison_section("Predictions", note, comparisons, self._palette),
        ]

    def save_files(
        self, folder: epath.Path, evaluation: SegmentationEvaluation
    ) -> None:
        save_predictions(
            folder / "predictions.png",
            self.panels(evaluation),
            self._classes,
            self._palette,
        )
