"""What a weight file holds, whatever its format."""

from typing import Any, NamedTuple

from segnext_jax.weights.convert import Tensors


class Contents(NamedTuple):
    """Tensors by their names in the file, in its layout."""

    weights: Tensors
    average: Tensors | None  # exponential moving average of them
    # What belongs to the file but has no place in the network, for writing it again.
    extra: dict[str, Any]
