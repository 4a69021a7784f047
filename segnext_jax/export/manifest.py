"""model.json: what somebody who has the export and nothing else wants to know."""

from collections.abc import Sequence
from importlib import metadata
from typing import Any, NamedTuple

from segnext_jax.export.gate import (
    MAX_DIFFERENCE,
    MAX_MIOU_DIFFERENCE,
    MIN_EQUAL,
    Figures,
)
from segnext_jax.export.program import Result
from segnext_jax.export.stablehlo import PLATFORMS, Shape

_MEANINGS = {
    "logits": "scores before softmax, by class",
    "probabilities": "by class, 0…1",
    "classes": "index of the likeliest class",
}
_PACKAGES = (
    *("jax", "jaxlib", "flax", "numpy", "tensorflow"),
    *("jax2onnx", "onnx", "onnxruntime"),
)


class Interface(NamedTuple):
    """What a program takes and returns."""

    result: Result
    size: Shape | None  # (height, width) of images; None: any
    num_classes: int

    def to_json(self) -> dict[str, Any]:
        sides = ["height", "width"] if self.size is None else list(self.size)
        is_map = self.result == "classes"
        return {
            "input": {
                "name": "image",
                "dtype": "uint8",
                "shape": ["batch", *sides, 3],
                "channels": "RGB",
                "range": [0, 255],
                "normalization": "inside the model",
            },
            "output": {
                "name": self.result,
                "dtype": "uint8" if is_map else "float32",
                "shape": ["batch", *sides, *([] if is_map else [self.num_classes])],
                "meaning": _MEANINGS[self.result],
            },
        }


def make_manifest(
    export_format: str,
    file: str,
    interface: Interface,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    provenance: dict[str, Any],
    figures: Figures,
) -> dict[str, Any]:
    """The content of model.json. `provenance` says which weights these are."""
    return {
        "format": export_format,
        "file": file,
        "platforms": ["cpu"] if export_format == "onnx" else list(PLATFORMS),
        **interface.to_json(),
        "classes": list(classes),
        "palette": [list(colour) for colour in palette],  # RGB
        "provenance": {**provenance, "versions": _versions()},
        "gate": {
            "images": figures.num_images,
            "equal_pixels": figures.equal_pixels,
            "max_difference": figures.max_difference,
            "miou": figures.miou,
            "native_miou": figures.native_miou,
            "limits": {
                "equal_pixels": MIN_EQUAL,
                "max_difference": MAX_DIFFERENCE,
                "miou": MAX_MIOU_DIFFERENCE,
            },
        },
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # not needed by this format
    return found
