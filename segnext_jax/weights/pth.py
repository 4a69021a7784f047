"""`.pth` files of the authors (mmsegmentation 0.x) and of mmsegmentation 1.x.

PyTorch reads and writes them: requirements-torch.txt installs it.
"""

import io
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from segnext_jax.weights.contents import Contents
from segnext_jax.weights.convert import Tensors
from segnext_jax.weights.naming import MMSEG, Naming

# Published files carry logs, of mmengine's classes and NumPy's scalars, beside the
# tensors. None of it is needed: inert objects take its place.
_INERT_PREFIXES = ("mmengine.", "numpy.")
_INERT_NAMES = ("builtins.getattr", "__builtin__.getattr")

_MMENGINE_PREFIX = "module."


def read(data: bytes, origin: str) -> Contents:
    """The contents of a file, without running anything that it says.

    Raises:
      ValueError: if it is damaged, no PyTorch file, or asks for code to be run.
      ImportError: without PyTorch.
    """
    checkpoint = _load(data, origin)
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{origin} holds a {type(checkpoint).__name__}, not weights")
    # Some publish the state dict alone.
    state = _to_numpy(checkpoint.get("state_dict", checkpoint))
    if "ema_state_dict" in checkpoint:
        return _from_mmengine(state, _to_numpy(checkpoint["ema_state_dict"]))
    return _from_mmcv(state)


def write(
    contents: Contents,
    naming: Naming,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
) -> bytes:
    """A file that the peer loads with strict=True. Raises ImportError without PyTorch.

    The average goes where mmengine (naming MMSEG) or mmcv 1.x (OFFICIAL) puts it.
    """
    torch = _import_torch()
    palette = [list(colour) for colour in palette]
    meta: dict[str, Any]
    if naming is MMSEG:
        meta = {"dataset_meta": {"classes": list(classes), "palette": palette}}
        states = _to_mmengine(contents)
    else:
        meta = {"CLASSES": list(classes), "PALETTE": palette}
        states = {"state_dict": _to_mmcv(contents)}
    checkpoint = {"meta": meta}
    for key, state in states.items():
        checkpoint[key] = {name: torch.tensor(x) for name, x in state.items()}
    file = io.BytesIO()
    torch.save(checkpoint, file)
    return file.getvalue()


class _Inert:
    """Stands for an object whose class is neither imported nor needed."""

    def __new__(cls, *args: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _load(data: bytes, origin: str) -> Any:
    torch = _import_torch()
    serialization = torch.serialization
    try:
        wanted = serialization.get_unsafe_globals_in_checkpoint(io.BytesIO(data))
        refused = [
            name
            for name in wanted
            if not (name.startswith(_INERT_PREFIXES) or name in _INERT_NAMES)
        ]
        if not refused:
            with serialization.safe_globals([(_Inert, name) for name in wanted]):
                return torch.load(
                    io.BytesIO(data), map_location="cpu", weights_only=True
                )
    except Exception as error:  # PyTorch raises half a dozen types for broken files
        raise ValueError(
            f"{origin} is no PyTorch file that can be read. Its {len(data)} bytes are "
            f"cut off, damaged or something else ({error})"
        ) from None
    raise ValueError(
        f"{origin} wants to run {', '.join(sorted(refused))}, which weights have no "
        "need of. It was not run, and nothing was loaded: get the file from its source"
    )


def _from_mmengine(state: Tensors, other: Tensors) -> Contents:
    # Its hook exchanges the two on saving: `state_dict` is the average.
    source = {
        name.removeprefix(_MMENGINE_PREFIX): x
        for name, x in other.items()
        if name.startswith(_MMENGINE_PREFIX)
    }
    return Contents(source, average=state, extra={"ema_steps": int(other["steps"])})


def _to_mmengine(contents: Contents) -> dict[str, Tensors]:
    if contents.average is None:
        return {"state_dict": contents.weights}
    source = {f"{_MMENGINE_PREFIX}{n}": x for n, x in contents.weights.items()}
    steps = np.asarray(contents.extra["ema_steps"], np.int64)
    return {
        "state_dict": contents.average,
        "ema_state_dict": {"steps": steps, **source},
    }


def _from_mmcv(state: Tensors) -> Contents:
    # Its hook registers the averaged parameters as buffers of the whole model.
    buffers = {name: _mmcv_buffer(name) for name in state}
    averaged = {n: state[buffer] for n, buffer in buffers.items() if buffer in state}
    weights = {n: x for n, x in state.items() if n not in buffers.values()}
    return Contents(weights, {**weights, **averaged} if averaged else None, extra={})


def _to_mmcv(contents: Contents) -> Tensors:
    if contents.average is None:
        return contents.weights
    averaged = {
        _mmcv_buffer(name): x
        for name, x in contents.average.items()
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }
    return contents.weights | averaged


def _mmcv_buffer(name: str) -> str:
    return f"ema_{name.replace('.', '_')}"


def _to_numpy(state: dict[str, Any]) -> Tensors:
    return {
        # NumPy has no bfloat16.
        name: (x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy()
        for name, x in state.items()
        if hasattr(x, "dtype")
    }


def _import_torch() -> ModuleType:
    try:
        import torch
    except ImportError:
        raise ImportError(
            ".pth files need PyTorch: pip install -r requirements-torch.txt"
        ) from None
    return torch
