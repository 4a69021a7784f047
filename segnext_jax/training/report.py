"""What a person sees of a run: CLU's writer, the console, and files in the workdir."""

import json
import math
from typing import Any

import jax
from absl import logging
from clu import metric_writers, parameter_overview
from etils import epath
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from segnext_jax.training.task import Evaluation, Task
from segnext_jax.visual.plots import plot_curves


class Report:
    """Scalars, panels and, at the end, curves.png, metrics.json and the task's files.

    Scalars also go to `history.jsonl`, from which a resumed run draws whole curves.
    Only process 0 writes files.
    """

    def __init__(
        self,
        workdir: str,
        writer: metric_writers.MetricWriter,
        task: Task,
        start_step: int,
    ):
        self._workdir = epath.Path(workdir)
        self._writer = writer
        self._task = task
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
        """Writes scores and image panels; returns the score that "best" goes by."""
        metrics = self._task.metrics(evaluation)
        self.scalars(step, flatten_dict({"val": metrics}, sep="/"))
        for i, image in enumerate(self._task.panels(evaluation)):
            self._writer.write_images(step, {f"val/example_{i}": image[None]})
        self._writer.flush()
        logging.info("Step %d: %s.", step, self._task.summary(evaluation))
        self._evaluation = step, evaluation
        return metrics[self._task.score]

    def finish(self) -> dict[str, Any]:
        """Writes the files, prints the scores, returns the metrics."""
        assert self._evaluation is not None, "finish follows an evaluation"
        step, evaluation = self._evaluation
        score = f"val/{self._task.score}"
        # Of equals the last, as the checkpoints have it.
        best = max(
            (row for row in self._history if score in row),
            key=lambda row: (row[score], row["step"]),
        )
        result = {
            "step": step,
            **_null_where_nan(self._task.metrics(evaluation)),
            "num_images": evaluation.num_images,
            "best": {"step": best["step"], self._task.score: best[score]},
        }
        logging.info("Validation at step %d:\n%s", step, self._task.details(evaluation))
        if self._is_writing:
            metrics_path = self._workdir / "metrics.json"
            metrics_path.write_text(json.dumps(result, indent=2) + "\n")
            plot_curves(self._workdir / "curves.png", self._curves())
            self._task.save_files(self._workdir, evaluation)
            logging.info("Curves and metrics are in %s.", self._workdir)
        return result

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


def _null_where_nan(metrics: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it, in the same order."""
    return {
        name: _null_where_nan(value)
        if isinstance(value, dict)
        else (None if math.isnan(value) else float(value))
        for name, value in metrics.items()
    }
