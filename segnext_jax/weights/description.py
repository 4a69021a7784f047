"""What weights say of themselves, in a checkpoint or in the header of a file."""

from typing import Any, NamedTuple

from ml_collections import ConfigDict


class Description(NamedTuple):
    """Enough to evaluate the weights with nothing else at hand."""

    config: ConfigDict
    classes: list[str]
    palette: list[list[int]]
    # Of weights from another implementation: what only their own format has use for.
    origin: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "config": self.config.to_dict(),
            "classes": list(self.classes),
            "palette": [list(colour) for colour in self.palette],
            "origin": self.origin,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Description":
        return cls(**(value | {"config": ConfigDict(value["config"])}))
