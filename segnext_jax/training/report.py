"""What a person sees of a run: CLU's writer, the console, and files in the workdir."""

import json
import math
import statistics
import time
from datetime import timedelta
from typing import Any

import jax
from absl import logging
from clu import metric_writers, parameter_overview
from etils import epath
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from segnext_jax.parallel.environment import environment
from segnext_jax.training.task import Evaluation, Task
from segnext_jax.visual.plots import plot_curves
from segnext_jax.visual.run_page import Run, run_page
from segnext_jax.visual.tables import percent

_RATE = "train/images_per_second"


class Report:
    """Scalars, panels and, at the end, report.html, metrics.json and pictures.

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
        self._start_step = start_step
        self._started = time.monotonic()
        self._first_step: float | None = None  # its seconds: it compiles
        self._config: ConfigDict | None = None
        self._evaluation: tuple[int, Evaluation] | None = None
        self._history_path = self._workdir / "history.jsonl"
        self._history = self._read_history(start_step)

    def start(self, config: ConfigDict, params: Any) -> None:
        """Logs the parameters and the config; the run is about to begin."""
        self._config = config
        self._started = time.monotonic()
        parameter_overview.log_parameter_overview(params)
        text = f"```json\n{config.to_json_best_effort(indent=2)}\n```"
        self._writer.write_texts(0, {"config": text})

    def scalars(self, step: int, scalars: dict[str, Any]) -> None:
        """Writes scalars of one step, e.g. `train/loss`."""
        row = {name: float(value) for name, value in scalars.items()}
        is_first = self._first_step is None and self._evaluation is None
        if is_first and "train/loss" in row:
            self._first_step = self._seconds_of_first_step(step, row)
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
        assert self._config and self._evaluation, "finish follows an evaluation"
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
            page = run_page(
                self._describe(self._config, result),
                self._curves(),
                self._task.sections(evaluation),
            )
            (self._workdir / "report.html").write_text(page)
            logging.info("report.html, curves and metrics are in %s.", self._workdir)
        return result

    def _describe(self, config: ConfigDict, result: dict[str, Any]) -> Run:
        """The run in words; what is not known of it is left out."""
        step, best = result["step"], result["best"]
        names = {
            "miou": "mIoU",
            "accuracy": "pixel accuracy",
            "top1": "top-1",
            "top5": "top-5",
        }
        facts = {
            "last step": f"{step:,}, scored on {result['num_images']:,} images",
            "best": f"{names[self._task.score]} {percent(best[self._task.score])} %"
            f" at step {best['step']:,}",
        }
        if step > self._start_step:
            seconds = round(time.monotonic() - self._started)
            since = f" since step {self._start_step:,}" * (self._start_step > 0)
            facts["duration"] = f"{timedelta(seconds=seconds)} h{since}"
        if self._first_step is not None:
            facts["first step"] = f"{self._first_step:.1f} s, with its compilation"
        return Run(
            title=f"{type(self._task.model).__name__}-{config.model.variant}"
            f" on {config.data.source}",
            root=config.data.root,
            scores={
                name: f"{percent(result[key])} %"
                for key, name in names.items()
                if key in result
            },
            facts=facts | self._describe_speed(config.train.batch_size),
            environment=environment(),
            config=json.loads(config.to_json_best_effort()),
        )

    def _describe_speed(self, batch_size: int) -> dict[str, str]:
        rates = [row[_RATE] for row in self._history if _RATE in row]
        if not rates:
            return {}
        rate = statistics.median(rates)
        return {
            "speed": f"{rate:.4g} images/s, {rate / batch_size:.4g} steps/s"
            f" of {batch_size} images (median)"
        }

    def _seconds_of_first_step(self, step: int, row: dict[str, float]) -> float | None:
        """What of the time until the first row the later steps do not explain."""
        assert self._config, "the run has started"
        seconds = time.monotonic() - self._started
        if later := step - self._start_step - 1:
            if _RATE not in row:
                return None
            seconds -= later * self._config.train.batch_size / row[_RATE]
        return max(0.0, seconds)

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
                # All at once: a kill must not lose it, and others are reading it.
                kept = self._history_path.with_suffix(".tmp")
                kept.write_text("".join(lines))
                kept.replace(self._history_path)
        return rows


def _null_where_nan(metrics: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it, in the same order."""
    return {
        name: _null_where_nan(value)
        if isinstance(value, dict)
        else (None if math.isnan(value) else float(value))
        for name, value in metrics.items()
    }
