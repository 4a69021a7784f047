"""Exports a checkpoint as a program that runs without this project.

    python -m tools.export --checkpoint RUN --format stablehlo --output DIR
    python -m tools.export --checkpoint RUN --format onnx --output DIR \
        --size 1024,2048 --images photo.jpg more_photos/

Nothing is written unless the export, in its own runtime, gives what the network gives:
on --images, or else on the validation split of the checkpoint. docs/export.md has the
formats, and how each is run.
"""

import os
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import json
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from ml_collections import ConfigDict
from tensorflow.compiler.tf2xla.python import xla

from configs.common import complete
from data.samples import labelled_samples, photo_samples
from data.sources import Source, make_source
from segnext_jax.export import onnx_model, stablehlo
from segnext_jax.export.gate import Figures, compare
from segnext_jax.export.manifest import Interface, make_manifest
from segnext_jax.export.program import Result, make_native, make_program
from segnext_jax.export.stablehlo import Runner, Shape
from segnext_jax.models.segnext import SegNeXt, Variables, make_model
from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.training import checkpoint
from segnext_jax.visual.console import quiet_libraries

# What TensorFlow 2.21 reads is up to 1.13.7; JAX writes newer ones.
_TENSORFLOW_STABLEHLO = "1.13.0"
_FILES = {
    "stablehlo": "model.stablehlo",
    "savedmodel": "saved_model",
    "onnx": "model.onnx",
}


def main(argv: list[str]) -> None:
    options = flags.FLAGS
    images = [*options.images, *argv[1:]]
    if argv[1:] and not options.images:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    quiet_libraries()
    tf.get_logger().setLevel("ERROR")  # each file that a SavedModel is written to
    logging.set_verbosity(logging.WARNING)
    tf.config.set_visible_devices([], "GPU")
    try:
        size = parse_size(options.size, options.format)
        # Where float32 is float32: a GPU computes products in fewer bits.
        with jax.default_device(jax.devices("cpu")[0]):
            export_checkpoint(
                options.checkpoint,
                options.format,
                Path(options.output),
                result=cast(Result, options.result),
                size=size,
                images=images,
                root=options["data.root"].value,
                split=options["data.val_split"].value,
                num_images=options.num_images,
            )
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(str(error)) from None


def parse_size(text: str, export_format: str) -> Shape | None:
    """(height, width), or None for dynamic. Raises ValueError with what would do."""
    if text == "dynamic":
        if export_format == "onnx":
            raise ValueError(
                "--size=dynamic: ONNX needs one size, e.g. --size=1024,2048 (height, "
                "width); the number of images is free"
            )
        return None
    parts = text.split(",")
    if len(parts) != 2 or not all(p.isdecimal() and int(p) > 0 for p in parts):
        raise ValueError(
            f"--size={text}: use HEIGHT,WIDTH, e.g. --size=1024,2048, or dynamic"
        )
    return int(parts[0]), int(parts[1])


def export_checkpoint(
    path: str,
    export_format: str,
    output: Path,
    *,
    result: Result = "logits",
    size: Shape | None = None,
    images: Sequence[str] = (),
    root: str | None = None,
    split: str | None = None,
    num_images: int = 16,
) -> Figures:
    """Writes `output`, or raises and writes nothing.

    Arguments are as the flags. Raises ValueError by how much the export is off, or for
    images and checkpoints that do not fit; FileExistsError; OSError; ImportError.
    """
    if output.exists() and any(output.iterdir()):
        raise FileExistsError(f"--output={output} exists: choose a new folder")
    location = checkpoint.locate(path)
    description = checkpoint.describe(location)
    config = complete(description.config)
    if config.task != "segmentation":
        raise ValueError(f"{path} is a checkpoint of {config.task}: there is no export")
    if root is not None:
        config.data.root = root
    if split is not None:
        config.data.val_split = split
    if images:
        samples = photo_samples(images, num_images, size)
    else:
        source = _open_split(config)
        names = source.classes.names
        checkpoint.check_classes(description, names, config.data.root)
        samples = labelled_samples(source, num_images, size)
    model = make_model(config.model, len(description.classes))
    weights = checkpoint.restore_weights(location, make_mesh()).best
    variables = jax.tree.map(np.asarray, weights)  # away from the accelerator

    output.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}."))
    try:
        run = _write(export_format, part, model, variables, result, size)
        print(f"Comparing with the network on up to {num_images} images.")
        native = make_native(model, variables)
        num_classes = len(description.classes)
        figures = compare(run, native, samples, result, num_classes)
        print(_summary(figures, result))
        if failures := figures.failures():
            raise ValueError(
                f"{output} is not written: the {export_format} does not compute what "
                f"the network does: {'; '.join(failures)}"
            )
        provenance = {
            "checkpoint": str(location.workdir),
            "step": location.step,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "config": description.config.to_dict(),
        }
        manifest = make_manifest(
            export_format,
            _FILES[export_format],
            Interface(result, size, num_classes),
            description.classes,
            description.palette,
            provenance,
            figures,
        )
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        (part / "model.json").write_text(text + "\n", encoding="utf-8")
        part.chmod(0o755)  # a temporary folder is its owner's alone
        part.rename(output)
    except tf.errors.OpError as error:
        reason = error.message[:500]  # of all that MLIR has to say
        raise ValueError(
            f"{output} is not written: TensorFlow cannot run it: {reason}"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    print(f"{output}: {_FILES[export_format]} and model.json written.")
    return figures


def _open_split(config: ConfigDict) -> Source:
    try:
        return make_source(config.data, config.data.val_split)
    except OSError as error:
        raise FileNotFoundError(
            "an export is compared with the network before it is written: give "
            "--images, or --data.root for labelled ones, as those of the checkpoint "
            f"are not there ({error})"
        ) from None


def _write(
    export_format: str,
    folder: Path,
    model: SegNeXt,
    variables: Variables,
    result: Result,
    size: Shape | None,
) -> Runner:
    """Writes the format into the folder; returns what its own runtime makes of it."""
    path = folder / _FILES[export_format]
    if export_format == "onnx":
        assert size is not None
        # onnxruntime has a kernel for grouped convolutions.
        program = make_program(model, variables, result, depthwise="xla")
        path.write_bytes(onnx_model.convert(program, size, output=result))
        return onnx_model.load(path.read_bytes())
    program = make_program(model, variables, result)
    exported = stablehlo.export_program(program, size)
    if export_format == "stablehlo":
        path.write_bytes(exported.serialize())
        return stablehlo.load(path.read_bytes())
    _write_saved_model(exported, str(path), result)
    predict = tf.saved_model.load(str(path)).signatures["serving_default"]
    return lambda image: predict(image=tf.constant(image))[result].numpy()


def _write_saved_model(exported: Any, path: str, result: Result) -> None:
    """A SavedModel of one operation, which holds the program.

    As jax2tf writes it; but jax2tf, and orbax-export on top of it, cannot write the
    older StableHLO that TensorFlow reads.
    """
    shape = [d if isinstance(d, int) else None for d in exported.in_avals[0].shape]
    (out,) = exported.out_avals
    attributes = dict(
        version=exported.calling_convention_version,
        module=stablehlo.for_older_readers(exported, _TENSORFLOW_STABLEHLO),
        Tout=[tf.as_dtype(out.dtype)],
        Sout=[[d if isinstance(d, int) else None for d in out.shape]],
        platforms=[platform.upper() for platform in exported.platforms],
        use_shardy_partitioner=True,
    )

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8, name="image")])
    def predict(image):
        return {result: xla.call_module([image], **attributes)[0]}

    module = tf.Module()
    module.predict = predict
    tf.saved_model.save(module, path, signatures={"serving_default": predict})


def _summary(figures: Figures, result: Result) -> str:
    parts = [f"{100 * figures.equal_pixels:.4f} % of pixels equal"]
    if figures.max_difference is not None:
        parts.append(f"{result} within {figures.max_difference:.2g}")
    if figures.miou is not None and figures.native_miou is not None:
        parts.append(
            f"mIoU {100 * figures.miou:.3f} %, native {100 * figures.native_miou:.3f} %"
        )
    return f"{figures.num_images} images: {', '.join(parts)}."


def _define_flags() -> None:
    # Not at import: the tests import several tools, and flags are of the process.
    flags.DEFINE_string(
        "checkpoint", None, "A workdir, or one step in its checkpoints/.", required=True
    )
    flags.DEFINE_enum(
        "format",
        None,
        ("stablehlo", "savedmodel", "onnx"),
        "What to write.",
        required=True,
    )
    flags.DEFINE_string("output", None, "A new folder.", required=True)
    flags.DEFINE_enum(
        "result", "logits", ("logits", "probabilities", "classes"), "Of every pixel."
    )
    flags.DEFINE_string(
        "size", "dynamic", "HEIGHT,WIDTH of the images, or dynamic: any (not for onnx)."
    )
    flags.DEFINE_multi_string(
        "images",
        [],
        "Files, folders, globs or lists to compare on; more may follow it.",
    )
    flags.DEFINE_string("data.root", None, "Data set; the checkpoint's if unset.")
    flags.DEFINE_string("data.val_split", None, "Split; the checkpoint's if unset.")
    flags.DEFINE_integer(
        "num_images", 16, "How many of the images to compare on.", lower_bound=1
    )


if __name__ == "__main__":
    _define_flags()
    app.run(main)
