"""What the goldens of both peers' evaluation share: images, protocols, label maps."""

import json
from pathlib import Path
from typing import NamedTuple

import cv2
import golden_fill
import numpy as np

from tools.golden import augment

SCORE_STEP = 7  # rows and columns of which scores are kept; odd, unlike the strides
NUM_LABELS = 8
VOID = 255

WINDOWS = ((48, 64), (32, 40))


class Protocol(NamedTuple):
    """Values of config.eval; sizes are (height, width)."""

    mode: str = "whole"
    crop_size: tuple[int, int] = (1024, 1024)
    stride: tuple[int, int] = (768, 768)
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    resize_to: tuple[int, int] | tuple[()] = ()
    size_divisor: int = 1
    pad_divisor: int = 1


class Case(NamedTuple):
    name: str
    protocol: Protocol
    image_size: tuple[int, int] = (75, 141)

    def recipe(self) -> dict[str, np.ndarray]:
        """What a test needs to know: `image_size` and the fields of the protocol."""
        fields = self.protocol._asdict() | {"image_size": self.image_size}
        return {name: np.asarray(value) for name, value in fields.items()}


def image(case: Case) -> np.ndarray:
    """The top left of a scene of edges and noise, uint8 [h w 3] RGB."""
    h, w = case.image_size
    return np.ascontiguousarray(augment.scene()["image"][:h, :w])


def golden(case: Case, scores: np.ndarray, pred: np.ndarray) -> dict[str, np.ndarray]:
    """The entries of a case: recipe, label map and some of the scores."""
    entries = case.recipe() | {
        "scores": scores[::SCORE_STEP, ::SCORE_STEP].astype(np.float32),
        "pred": pred.astype(np.uint8),
    }
    return {f"{case.name}/{name}": x for name, x in entries.items()}


def label_maps() -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions to score, uint8 [3 30 40] of 8 classes and void.

    Class 5 is predicted but never labelled, 6 is neither, 7 is labelled but never
    predicted. Predictions are right in about half of the pixels.
    """
    shape = (3, 30, 40)
    label, guess = (
        golden_fill.uniform(name, shape, 0, NUM_LABELS).astype(np.uint8)
        for name in ("metrics/label", "metrics/guess")
    )
    label[(label == 5) | (label == 6)] = 0
    guess[(guess == 6) | (guess == 7)] = 1
    is_right = golden_fill.uniform("metrics/is_right", shape, 0, 1) < 0.5
    pred = np.where(is_right & (label != 7), label, guess)
    label[golden_fill.uniform("metrics/void", shape, 0, 1) < 0.1] = VOID
    return label, pred


class Job(NamedTuple):
    """What a peer does for `tools/compare_evaluation.py`.

    Into `output` it writes I.png, the predicted train ids of image I, and scores.json,
    fractions by the names that they have in Confusion.compute.
    """

    weights: str  # .npz by the peer's names; `bases` [d r] are the NMF's
    variant: str
    channels: int  # of the decoder
    classes: list[str]
    images: list[str]  # files
    labels: list[str]  # PNGs of train ids
    protocol: Protocol
    output: str

    def save(self, path: Path) -> None:
        fields = self._asdict() | {"protocol": self.protocol._asdict()}
        path.write_text(json.dumps(fields))

    @classmethod
    def load(cls, path: str) -> "Job":
        fields = json.loads(Path(path).read_text())
        return cls(**(fields | {"protocol": Protocol(**fields["protocol"])}))

    def read_weights(self) -> dict[str, np.ndarray]:
        with np.load(self.weights) as file:
            return dict(file)

    def save_map(self, index: int, pred: np.ndarray) -> None:
        cv2.imwrite(str(Path(self.output, f"{index}.png")), pred.astype(np.uint8))

    def save_scores(self, scores: dict[str, float]) -> None:
        Path(self.output, "scores.json").write_text(json.dumps(scores))
