"""`.safetensors` files: this project's names and layouts, for any framework."""

import json

import safetensors
import safetensors.numpy

from segnext_jax.weights.contents import Contents

_AVERAGE = "average/"
_EXTRA = "segnext_jax"  # a JSON text among the metadata


def read(data: bytes, origin: str) -> Contents:
    """The contents of a file. Raises ValueError if it is damaged."""
    try:
        tensors = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{origin} is no .safetensors file that can be read. Its {len(data)} bytes "
            f"are cut off, damaged or something else ({error})"
        ) from None
    average = {
        name.removeprefix(_AVERAGE): x
        for name, x in tensors.items()
        if name.startswith(_AVERAGE)
    }
    weights = {n: x for n, x in tensors.items() if not n.startswith(_AVERAGE)}
    metadata = _header(data).get("__metadata__", {})
    return Contents(weights, average or None, json.loads(metadata.get(_EXTRA, "{}")))


def write(contents: Contents) -> bytes:
    """A file with the average, if there is one, beside the weights."""
    average = contents.average or {}
    tensors = contents.weights | {f"{_AVERAGE}{n}": x for n, x in average.items()}
    return safetensors.numpy.save(tensors, {_EXTRA: json.dumps(contents.extra)})


def _header(data: bytes) -> dict:
    # Its length in eight bytes, then JSON; the library shows it for paths alone.
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])
