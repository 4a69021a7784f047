"""What the loop needs to know of what is trained, and the choice of it."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segnext_jax.training.classification import Classification
from segnext_jax.training.objective import Objective
from segnext_jax.training.segmentation import Segmentation


class Evaluation(Protocol):
    """What an evaluator returns; more of it only its task knows."""

    @property
    def num_images(self) -> int: ...


class Task(Objective, Protocol):
    """What is trained, and what is said of its evaluations."""

    @property
    def score(self) -> str:
        """Which of the metrics "best" goes by, e.g. "miou"."""

    def make_evaluator(self, mesh: Mesh) -> Callable[..., Evaluation]:
        """(variables, batches) → what the methods below take as `evaluation`."""

    def metrics(self, evaluation: Any) -> dict[str, Any]:
        """Scores by name, `score` among them, those by class one level down.

        Fractions 0…1; NaN where there is nothing to score.
        """

    def summary(self, evaluation: Any) -> str:
        """The scores in one line."""

    def details(self, evaluation: Any) -> str:
        """The scores in full, the summary last."""

    def panels(self, evaluation: Any) -> list[np.ndarray]:
        """Pictures of examples, uint8 [h w 3]."""

    def sections(self, evaluation: Any) -> list[str]:
        """HTML of the page about a run; `visual.score_sections` has its style."""

    def save_files(self, folder: epath.Path, evaluation: Any) -> None:
        """Writes what else a person looks at after a run."""


def make_task(
    config: ConfigDict, classes: Sequence[str], palette: Sequence[Sequence[int]]
) -> Task:
    """The task that `config.task` names.

    Args:
      config: the whole config.
      classes: names of the classes.
      palette: RGB colours 0…255 of the classes; only segmentation has them.

    Raises:
      ValueError: if a name in the config is none of the known ones.
    """
    if config.task == "segmentation":
        return Segmentation(config, classes, palette)
    if config.task == "classification":
        return Classification(config, classes)
    raise ValueError(
        f'config.task is {config.task!r}: use "segmentation" or "classification"'
    )
