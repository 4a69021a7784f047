"""What a person sees of a run: CLU's writer, the console, and files in the workdir."""

import json
import math
from collections.abc import Sequence
from typing import Any

import jax
from absl import logging
from clu import metric_writers, parameter_overview
from etils import epath
from ml_collections import ConfigDict

from segnext_jax.evaluation.evaluator import Evaluation
from segnext_jax.visual.overlay import panel, save_predictions
from segnext_jax.visual.plots import plot_curves
from segnext_jax.visual.tables import per_class_table


class Report:
    """Scalars, panels and, at the end, curves.png, predictions.png, metrics.json.

    Scalars also go to `history.jsonl`, from which a resumed run draws whole curves.
    Only process 0 writes files.
    """

    def __init__(
        self,
        workdir: str,
        writer: metric_writers.MetricWriter,
        classes: Sequence[str],
        palette: Sequence[Sequence[int]],
        start_step: int,
    ):
        self._workdir = epath.Path(workdir)
        self._writer = writer
        self._classes = list(classes)
        self._palette = palette
        self._is_writing = jax.process_index() == 0
        self._evaluation: tuple[int, Evaluation] | None = None
        self._history_path = self._workdir / "history.jsonl"
        self._history = self._read_history(start_step)

    def start(self, config: ConfigDict, params: Any) -> None:
        """Logs the parameters and the config."""
        parameter_overview.log_parameter_overview(params)
        text = f"```json\n{config.to_json_best_effort(indent=2)}\n```"
        self._writer.write_texts(0, {"config": text})

    def scalars(self, step: int, scalars: dict[str, Any]) -> None:
        """Writes scalars of one step, e.g. `train/loss`."""
        row = {name: float(value) for name, value in scalars.items()}
        self._writer.write_scalars(step, row)
        self._history.append({"step": step, **row})
        if self._is_writing:
            # One line a write: a kill leaves at most the last line incomplete.
            with self._history_path.open("a") as file:
                file.write(json.dumps(self._history[-1]) + "\n")

    def evaluation(self, step: int, evaluation: Evaluation) -> float:
        """Writes scores and image panels; returns the mIoU."""
        scores = evaluation.confusion.compute()
        self.scalars(
            step,
            {
                "val/miou": scores["miou"],
                "val/accuracy": scores["accuracy"],
                **{
                    f"val/iou/{name}": iou
                    for name, iou in zip(self._classes, scores["iou"], strict=True)
                },
            },
        )
        for i, image in enumerate(self._panels(evaluation)):
            self._writer.write_images(step, {f"val/example_{i}": image[None]})
        self._writer.flush()
        logging.info(
            "Step %d: mIoU %.2f %%, pixel accuracy %.2f %% on %d images.",
            step,
            100 * scores["miou"],
            100 * scores["accuracy"],
            evaluation.num_images,
        )
        self._evaluation = step, evaluation
        return scores["miou"]

    def finish(self) -> dict[str, Any]:
        """Writes the files, prints the table of classes, returns the metrics."""
        assert self._evaluation is not None, "finish follows an evaluation"
        step, evaluation = self._evaluation
        scores = evaluation.confusion.compute()
        best = max(
            (row for row in self._history if "val/miou" in row),
            key=lambda row: row["val/miou"],
        )
        result = {
            "step": step,
            "miou": scores["miou"],
            "accuracy": scores["accuracy"],
            "iou": dict(zip(self._classes, _json_floats(scores["iou"]), strict=True)),
            "num_images": evaluation.num_images,
            "best": {"step": best["step"], "miou": best["val/miou"]},
        }
        logging.info(
            "Validation at step %d:\n%s",
            step,
            per_class_table(
                self._classes, scores["iou"], scores["class_accuracy"], scores["share"]
            ),
        )
        if self._is_writing:
            metrics_path = self._workdir / "metrics.json"
            metrics_path.write_text(json.dumps(result, indent=2) + "\n")
            plot_curves(self._workdir / "curves.png", self._curves())
            save_predictions(
                self._workdir / "predictions.png",
                self._panels(evaluation),
                self._classes,
                self._palette,
            )
            logging.info("Curves, predictions and metrics are in %s.", self._workdir)
        return result

    def _panels(self, evaluation: Evaluation):
        return [
            panel(example.image, example.label, example.pred, self._palette)
            for example in evaluation.examples
        ]

    def _curves(self) -> dict[str, list[tuple[int, float]]]:
        curves: dict[str, list[tuple[int, float]]] = {}
        for row in self._history:
            for name, value in row.items():
                if name != "step":
                    curves.setdefault(name, []).append((row["step"], value))
        return curves

    def _read_history(self, start_step: int) -> list[dict[str, Any]]:
        """Rows up to the checkpoint; later ones will be trained and written again."""
        rows = []
        if self._history_path.exists():
            for line in self._history_path.read_text().splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    break  # cut off by a kill
                if row["step"] <= start_step:
                    rows.append(row)
            if self._is_writing:
                lines = (json.dumps(row) + "\n" for row in rows)
                self._history_path.write_text("".join(lines))
        return rows


def _json_floats(values) -> list[float | None]:
    return [None if math.isnan(v) else float(v) for v in values]
