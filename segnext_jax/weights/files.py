"""Weight files: read into the variables of a model, and written from them."""

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

from etils import epath

from segnext_jax.models.segnext import Variables
from segnext_jax.weights import neutral, pdparams, pth
from segnext_jax.weights.contents import Contents
from segnext_jax.weights.convert import Shapes, adopt, export, flatten
from segnext_jax.weights.description import Description
from segnext_jax.weights.naming import (
    MMSEG,
    NATIVE,
    OFFICIAL,
    PADDLESEG,
    Naming,
    detect,
)

_READERS = {
    ".pth": pth.read,
    ".pdparams": pdparams.read,
    ".safetensors": neutral.read,
}
# Whose names a file of this suffix can have.
NAMINGS = {
    ".pth": (OFFICIAL, MMSEG),
    ".pdparams": (PADDLESEG,),
    ".safetensors": (NATIVE,),
}
_COUNTERS = "num_batches_tracked"
_AVERAGE_COUNTERS = "average_num_batches_tracked"
_DESCRIPTION = "description"


class Weights(NamedTuple):
    """What a weight file is to this project."""

    variables: Variables  # float32; without what was left out
    average: Variables | None  # exponential moving average of them
    extra: dict[str, Any]  # what only the file's own format has use for; JSON
    naming: str  # whose names the file has
    left_out: list[str]  # its tensors that were not asked for

    @property
    def best(self) -> Variables:
        """What is evaluated and fine-tuned: the average where there is one."""
        return self.variables if self.average is None else self.average


def native_extra(variables: Variables, step: int) -> dict[str, Any]:
    """What the peers' formats want to know of weights that were trained here."""
    means = (p for p in flatten(variables) if p.endswith("/mean"))
    counters = {path.removesuffix("/mean"): step for path in means}
    return {_COUNTERS: counters, "ema_steps": step}


def is_weight_file(path: str) -> bool:
    """Whether the name is that of a weight file, not of a checkpoint."""
    return epath.Path(path).suffix in _READERS


def read(path: str, expected: Shapes, leave_out: Iterable[str] = ()) -> Weights:
    """Reads a file of any format; its suffix and its names tell which.

    Args:
      path: local or remote.
      expected: shapes of the model.
      leave_out: modules that are neither taken nor missed, e.g. "decoder".

    Raises:
      FileNotFoundError: if there is none.
      ValueError: if it cannot be read safely, or does not fit the model.
      ImportError: for .pth without PyTorch.
    """
    file = epath.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no weight file {path}")
    contents = _READERS[file.suffix](file.read_bytes(), path)
    naming = detect(list(contents.weights), path)
    take = partial(
        adopt, expected=expected, naming=naming, origin=path, leave_out=[*leave_out]
    )
    weights = take(contents.weights)
    # The neutral format has no counters among its tensors but those of another.
    extra = {_COUNTERS: weights.counters} | contents.extra
    extra.pop(_DESCRIPTION, None)
    average = None
    if contents.average is not None:
        imported = take(contents.average)
        average = imported.variables
        if imported.counters != weights.counters:
            extra |= {_AVERAGE_COUNTERS: imported.counters}
    return Weights(weights.variables, average, extra, naming.label, weights.left_out)


def description(path: str) -> Description | None:
    """What a file says of itself; the peers' say nothing."""
    file = epath.Path(path)
    if file.suffix != ".safetensors" or not file.is_file():
        return None
    extra = neutral.read(file.read_bytes(), path).extra
    return Description.from_json(extra[_DESCRIPTION]) if extra else None


def write(
    path: str, weights: Weights, naming: Naming, description: Description
) -> None:
    """Writes a file that its peer loads strictly, whole or not at all.

    Args:
      path: local or remote; its suffix tells the format.
      weights: `extra` as `read` returns it: "num_batches_tracked" by BatchNorm and,
        for an average in the .pth of mmsegmentation 1.x, "ema_steps".
      naming: one of `NAMINGS` for this suffix.
      description: .pth files have room for the classes, .safetensors for all.

    Raises:
      FileExistsError: if there is a file.
      ValueError: if the peer has no counterpart of a module.
      ImportError: for .pth without PyTorch.
    """
    file = epath.Path(path)
    if file.exists():
        raise FileExistsError(f"{path} exists: choose another name, or remove it")
    extra = weights.extra
    # A model for images has its ImageNet head, and published names without prefix.
    bare = "head" in weights.variables["params"]
    tensors = export(weights.variables, naming, bare=bare, counters=extra[_COUNTERS])
    average = None
    if weights.average is not None:
        counters = extra[_AVERAGE_COUNTERS if _AVERAGE_COUNTERS in extra else _COUNTERS]
        average = export(weights.average, naming, bare=bare, counters=counters)
    if file.suffix == ".pth":
        contents = Contents(tensors, average, extra)
        data = pth.write(contents, naming, description.classes, description.palette)
    elif file.suffix == ".pdparams":
        data = pdparams.write(Contents(tensors, average, extra))
    else:
        extra = extra | {_DESCRIPTION: description.to_json()}
        data = neutral.write(Contents(tensors, average, extra))
    part = file.with_name(f"{file.name}.part")
    part.write_bytes(data)
    part.rename(file)
