"""Programs in StableHLO, which JAX, TensorFlow and other compilers run."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend.mlir import passmanager
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import mlir

from segnext_jax.export.program import Function

PLATFORMS = ("cpu", "cuda", "tpu")

Shape = tuple[int, int]
Runner = Callable[[np.ndarray], np.ndarray]


def export_program(program: Function, size: Shape | None) -> export.Exported:
    """A program for all platforms and any number of images.

    Args:
      program: of `make_program`.
      size: (height, width) of the images, or None for any.
    """
    h, w = ("h", "w") if size is None else size
    shape = export.symbolic_shape(f"b, {h}, {w}, 3")
    image = jax.ShapeDtypeStruct(shape, jnp.uint8)
    return export.export(jax.jit(program), platforms=PLATFORMS)(image)


def load(data: bytes) -> Runner:
    """What a serialized program computes, by JAX alone."""
    # deserialize is declared for bytearrays, in which flatbuffers reads.
    program = jax.jit(export.deserialize(bytearray(data)).call)
    return lambda image: np.asarray(program(image))


def for_older_readers(exported: export.Exported, version: str) -> bytes:
    """The module of a program in the StableHLO of an older version, e.g. "1.13.0".

    What the older version knows by name alone, the error function of the GELU, is
    spelt out; readers with shapes still open cannot look behind the name.
    """
    stablehlo.register_stablehlo_passes()
    passes = "builtin.module(func.func(stablehlo-legalize-composite-to-call),inline)"
    with mlir.make_ir_context() as context:
        module = stablehlo.deserialize_portable_artifact(
            context, exported.mlir_module_serialized
        )
        passmanager.PassManager.parse(passes).run(module.operation)
        return stablehlo.serialize_portable_artifact(module, version)
