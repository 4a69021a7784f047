"""`.pdparams` files of PaddleSeg: a pickle of arrays by name. Paddle is not needed."""

import io
import pickle
from typing import Any

import numpy as np

from segnext_jax.weights.contents import Contents

# What a pickled array is rebuilt from. NumPy 2 renamed numpy.core.
_ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}
# Paddle's own names of the parameters, by those in the file.
_NAME_TABLE = "StructuredToParameterName@@"


def read(data: bytes, origin: str) -> Contents:
    """The contents of a file, whose pickle can make nothing but arrays and text.

    Raises ValueError if it is damaged, holds other things or asks for code to be run.
    """
    try:
        tensors = _Unpickler(io.BytesIO(data), encoding="latin1").load()
    except _RefusedError as refused:
        raise ValueError(
            f"{origin} wants to run {refused}, which weights have no need of. It was "
            "not run, and nothing was loaded: get the file from its source"
        ) from None
    except Exception as error:  # pickle raises half a dozen types for broken files
        raise ValueError(
            f"{origin} is no .pdparams file that can be read. Its {len(data)} bytes "
            f"are cut off, damaged or something else ({error})"
        ) from None
    if not isinstance(tensors, dict):
        raise ValueError(f"{origin} holds a {type(tensors).__name__}, not weights")
    table = tensors.pop(_NAME_TABLE, None)
    others = [n for n, x in tensors.items() if not isinstance(x, np.ndarray)]
    if others:
        raise ValueError(f"{origin} holds things that are no arrays: {others[:3]}")
    return Contents(
        tensors, average=None, extra={} if table is None else {"name_table": table}
    )


def write(contents: Contents) -> bytes:
    """A file that paddle.load reads; the average alone where there is one."""
    tensors: dict[str, Any] = dict(contents.average or contents.weights)
    if "name_table" in contents.extra:
        tensors[_NAME_TABLE] = contents.extra["name_table"]
    file = io.BytesIO()
    _Pickler(file, protocol=4).dump(tensors)
    return file.getvalue()


class _RefusedError(Exception):
    """The pickle asks for something that is no part of an array."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core.", "numpy._core.")
        if (module, name) not in _ALLOWED:
            raise _RefusedError(f"{module}.{name}")
        return super().find_class(module, name)


class _Pickler(pickle.Pickler):
    """Writes arrays so that every NumPy reads them, without its private modules."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is np.ndarray:
            return np.ndarray, (obj.shape, obj.dtype.str, obj.tobytes())
        return NotImplemented
