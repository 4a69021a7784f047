"""The function that is exported, and the one it must reproduce."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from segnext_jax.evaluation.inference import score_image
from segnext_jax.evaluation.protocol import Protocol
from segnext_jax.models.folding import fold
from segnext_jax.models.segnext import SegNeXt, Variables
from segnext_jax.ops.depthwise import Implementation
from segnext_jax.ops.normalize import normalize
from segnext_jax.ops.resize import resize_bilinear

Result = Literal["logits", "probabilities", "classes"]
Function = Callable[[jax.Array], jax.Array]


def make_program(
    model: SegNeXt,
    variables: Variables,
    result: Result,
    depthwise: Implementation = "portable",
) -> Function:
    """Images to results, with everything inside that makes the one of the other.

    The function takes uint8 [b h w 3], RGB in 0…255, and returns "logits" or
    "probabilities", float32 [b h w c], or "classes", uint8 [b h w]. Sides may be
    symbolic. It normalises, has weights and NMF bases as constants, no norms where a
    convolution can hold them, and computes in float32 whatever the model trained in.
    """
    folded, folded_variables = fold(to_float32(model, depthwise), variables)

    def program(image: jax.Array) -> jax.Array:
        logits = folded.apply(folded_variables, normalize(image), train=False)
        logits = resize_bilinear(jnp.asarray(logits), image.shape[1:3])
        if result == "logits":
            return logits
        if result == "probabilities":
            return jax.nn.softmax(logits, axis=-1)
        return jnp.argmax(logits, axis=-1).astype(jnp.uint8)

    return program


def make_native(model: SegNeXt, variables: Variables) -> Function:
    """What eval.py computes of whole images, in float32: uint8 [1 h w 3] → logits."""
    model = to_float32(model, model.backbone.depthwise)

    @jax.jit
    def native(image: jax.Array) -> jax.Array:
        _, h, w, _ = image.shape
        return score_image(model, variables, [image], (h, w), Protocol())

    return native


def to_float32(model: SegNeXt, depthwise: Implementation) -> SegNeXt:
    """The same network with other activations."""
    return model.clone(
        backbone=model.backbone.clone(dtype=jnp.float32, depthwise=depthwise),
        decoder=model.decoder.clone(dtype=jnp.float32),
    )
