"""Networks without BatchNorm, to infer with: the convolutions absorb it.

With fixed moments BatchNorm is an affine map of every channel. That of the stem and the
embeddings stands behind a convolution, whose outputs it maps; that of a block stands
before a product of pixels (1×1), whose inputs it maps. None stands right before a
convolution that pads, so what is padded stays zero and borders are exact. LayerScale,
one more factor, goes into the product before it.
"""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import numpy as np

from segnext_jax.models.mscan import EPSILON
from segnext_jax.models.segnext import SegNeXt, Variables

Tree = Mapping[str, Any]


class Affine(NamedTuple):
    """x·scale + shift: float64 [c]."""

    scale: np.ndarray
    shift: np.ndarray


def fold(model: SegNeXt, variables: Variables) -> tuple[SegNeXt, Variables]:
    """The same function of images, to rounding, in fewer operations.

    Returns a model that only infers (`train=False`), and its variables: NumPy arrays of
    the dtypes they had, computed in float64; nothing but params.
    """
    params, stats = (
        jax.tree.map(np.asarray, variables[name]) for name in ("params", "batch_stats")
    )
    folded = _fold_backbone(params["backbone"], stats["backbone"])
    dtype = params["decoder"]["classifier"]["kernel"].dtype
    backbone = jax.tree.map(lambda x: x.astype(dtype), folded)
    return (
        model.clone(backbone=model.backbone.clone(is_folded=True)),
        {"params": {**params, "backbone": backbone}},
    )


def _fold_backbone(params: Tree, stats: Tree) -> Tree:
    folded: dict[str, Tree] = {}
    for name, module in params.items():
        if name == "stem":
            folded[name] = {
                f"conv{i}": _after(
                    module[f"conv{i}"],
                    _affine(module[f"norm{i}"], stats[name][f"norm{i}"]),
                )
                for i in (1, 2)
            }
        elif name.endswith("_embed"):
            norm = f"{name}_norm"
            folded[name] = _after(module, _affine(params[norm], stats[norm]))
        elif name.endswith("_blocks"):
            folded[name] = _fold_blocks(module, stats[name])
        elif not name.endswith("_embed_norm"):
            folded[name] = module
    return folded


def _fold_blocks(params: Tree, stats: Tree) -> Tree:
    """Of a stage, stacked."""
    depth = len(params["norm1"]["scale"])
    blocks = [
        _fold_block(*(jax.tree.map(itemgetter(i), tree) for tree in (params, stats)))
        for i in range(depth)
    ]
    return jax.tree.map(lambda *each: np.stack(each), *blocks)


def _fold_block(params: Tree, stats: Tree) -> Tree:
    attention, ffn = params["attention"], params["ffn"]
    norm1, norm2 = (_affine(params[name], stats[name]) for name in ("norm1", "norm2"))
    scale1, scale2 = (
        params[name]["scale"].astype(np.float64)
        for name in ("layer_scale1", "layer_scale2")
    )
    # x + scale1·(norm1(x) + proj2(y)): the shortcut in the attention starts from the
    # norm, so that x has a factor of its own, and the norm's shift joins the bias.
    proj2 = _after(attention["proj2"], Affine(scale1, scale1 * norm1.shift))
    return {
        "attention": {
            **attention,
            "proj1": _before(attention["proj1"], norm1),
            "proj2": proj2,
            "shortcut": {"scale": 1 + scale1 * norm1.scale},
        },
        "ffn": {
            **ffn,
            "expand": _before(ffn["expand"], norm2),
            "project": _after(ffn["project"], Affine(scale2, np.zeros_like(scale2))),
        },
    }


def _affine(norm: Tree, stats: Tree) -> Affine:
    """BatchNorm by its running moments."""
    mean, var = (stats[name].astype(np.float64) for name in ("mean", "var"))
    scale = norm["scale"] / np.sqrt(var + EPSILON)
    return Affine(scale, norm["bias"] - mean * scale)


def _after(conv: Tree, affine: Affine) -> Tree:
    """`affine` of what a convolution or product [… in out] returns."""
    kernel, bias = conv["kernel"].astype(np.float64), conv["bias"].astype(np.float64)
    return {"kernel": kernel * affine.scale, "bias": bias * affine.scale + affine.shift}


def _before(product: Tree, affine: Affine) -> Tree:
    """A product [in out] of what `affine` returns."""
    kernel = product["kernel"].astype(np.float64)
    return {
        "kernel": kernel * affine.scale[:, None],
        "bias": product["bias"] + affine.shift @ kernel,
    }
