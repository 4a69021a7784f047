"""Converts weights between this project's checkpoints and the files of its peers.

    python -m tools.convert --input segnext_t.pth --output runs/segnext_t \
        --config configs/mscan_t.py:official
    python -m tools.convert --input runs/segnext_t --output segnext_t.pth --naming mmseg

Either side is a checkpoint (a folder) or a file: .pth (naming "official", the authors',
or "mmseg", mmsegmentation 1.x), .pdparams (PaddleSeg) or .safetensors (this project's
names). The files of peers do not say what network they are of: --config does, and what
it says of the NMF, of drop path and of the classes goes into the checkpoint.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow only reads files here

import math

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from data.sources import source_classes
from data.sources.imagenet import class_names
from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.training import checkpoint
from segnext_jax.training.task import make_task
from segnext_jax.visual.console import quiet_libraries
from segnext_jax.weights import convert, files
from segnext_jax.weights.description import Description
from segnext_jax.weights.files import Weights
from segnext_jax.weights.naming import Naming

_INPUT = flags.DEFINE_string(
    "input", None, "Checkpoint or file to read.", required=True
)
_OUTPUT = flags.DEFINE_string("output", None, "What to write.", required=True)
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "What a peer's file is of, e.g. configs/mscan_b.py:official."
)
_NAMING = flags.DEFINE_enum(
    "naming", None, ("official", "mmseg"), "Whose names a .pth file shall have."
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    quiet_libraries()
    try:
        convert_weights(_INPUT.value, _OUTPUT.value, _CONFIG.value, _NAMING.value)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(str(error)) from None


def convert_weights(
    source: str, target: str, config: ConfigDict | None, naming: str | None
) -> None:
    """Reads `source` and writes `target`, or raises and writes nothing."""
    target_naming = _choose_naming(target, naming)
    if files.is_weight_file(source):
        weights, description = _read_file(source, config)
    elif config is not None:
        raise ValueError(f"{source} is a checkpoint and says what it is: omit --config")
    else:
        location = checkpoint.locate(source)
        description = checkpoint.describe(location)
        weights = checkpoint.restore_weights(location, make_mesh())
    flat = convert.flatten(weights.variables)
    print(
        f"{source}: {weights.naming} names, {len(flat)} tensors with "
        f"{sum(math.prod(x.shape) for x in flat.values()):,} numbers"
        f"{', and their moving average' if weights.average is not None else ''}."
    )
    if target_naming is None:
        checkpoint.write_weights(target, weights, description)
    else:
        files.write(target, weights, target_naming, description)
    print(f"{target}: written.")


def _choose_naming(target: str, label: str | None) -> Naming | None:
    """Whose names the target shall have; None for a checkpoint."""
    if files.is_weight_file(target):
        choices = {n.label: n for n in files.NAMINGS[os.path.splitext(target)[1]]}
        if label is None and len(choices) == 1:
            return next(iter(choices.values()))
        if label in choices:
            return choices[label]
    elif label is None:
        return None
    raise ValueError(
        f"--naming is {label!r}, but {target} is to be written: .pth files need "
        '"official" or "mmseg", all others have names of their own'
    )


def _read_file(path: str, config: ConfigDict | None) -> tuple[Weights, Description]:
    description = files.description(path)
    if description is not None and config is not None:
        raise ValueError(f"{path} says itself what it is: omit --config")
    if description is None:
        if config is None:
            raise ValueError(
                f"{path} does not say what it is of: give --config, e.g. "
                "configs/mscan_t.py:official"
            )
        description = _describe(config)
    task = make_task(description.config, description.classes, description.palette)
    weights = files.read(path, convert.shapes(task.model))
    if config is not None:
        print(
            f"Taken from --config, as the file does not tell: {config.task}, "
            f"{len(description.classes)} classes from {description.classes[0]!r} to "
            f"{description.classes[-1]!r}, {_settings(config)}."
        )
    return weights, description


def _describe(config: ConfigDict) -> Description:
    if config.task == "classification":
        return Description(config, list(class_names()), palette=[])
    classes = source_classes(config.data)
    return Description(
        config, list(classes.names), [list(colour) for colour in classes.palette]
    )


def _settings(config: ConfigDict) -> str:
    if config.task == "classification":
        return f"drop path {config.model.drop_path_rate}"
    return (
        f"decoder {config.model.decoder!r} (which sets the NMF rank), "
        f"{config.model.nmf_train_steps} and {config.model.nmf_eval_steps} NMF steps "
        f"in training and evaluation, drop path {config.model.drop_path_rate}, "
        f"dropout {config.model.dropout_rate}"
    )


if __name__ == "__main__":
    app.run(main)
