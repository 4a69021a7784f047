"""Programs in ONNX, by jax2onnx (requirements-export.txt)."""

import contextlib
import io
import logging
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from segnext_jax.export.program import Function
from segnext_jax.export.stablehlo import Runner, Shape

INPUT = "image"


def convert(program: Function, size: Shape, output: str) -> bytes:
    """A model for any number of images of one size.

    jax2onnx has no arithmetic for sides that are known only when the model runs.

    Args:
      program: of `make_program`, with depthwise "xla".
      size: (height, width).
      output: what the result is called.

    Raises ImportError without jax2onnx.
    """
    # It prints what it patches, and warns of its plugins for other libraries.
    for name in ("jax2onnx", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import jax2onnx
        except ImportError as error:
            raise ImportError(
                f"ONNX needs pip install -r requirements-export.txt ({error})"
            ) from None
        image = jax.ShapeDtypeStruct(("b", *size, 3), jnp.uint8)
        model = jax2onnx.to_onnx(
            program,
            [image],
            model_name="segnext",
            input_names=[INPUT],
            output_names=[output],
        )
    return model.SerializeToString()


def load(data: bytes) -> Runner:
    """What a model computes, by onnxruntime on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(image: np.ndarray) -> np.ndarray:
        (result,) = session.run(None, {INPUT: image})
        return np.asarray(result)

    return run
