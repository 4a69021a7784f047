"""Segmentation as a task: every pixel has a class, scored by the mean IoU."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segnext_jax.evaluation.evaluator import (
    SegmentationEvaluation,
    SegmentationEvaluator,
)
from segnext_jax.evaluation.protocol import Protocol
from segnext_jax.training.objective import SegmentationObjective
from segnext_jax.visual.overlay import panel, save_predictions
from segnext_jax.visual.score_sections import (
    Comparison,
    class_section,
    comparison_section,
    confusion_section,
)
from segnext_jax.visual.tables import per_class_table, percent

_NUM_EXAMPLES = 4  # images shown at every evaluation


class Segmentation(SegmentationObjective):
    """SegNeXt on labelled pixels. Implements `task.Task`."""

    score = "miou"

    def __init__(
        self,
        config: ConfigDict,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]],
    ):
        super().__init__(config, len(classes))
        self._classes = list(classes)
        self._palette = palette

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
