"""Weights by rule for both sides: mmseg's name and layout of every Flax variable."""

import re

import flax
import golden_fill
import numpy as np

NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
ATTENTION = {
    "proj1": "proj_1",
    "proj2": "proj_2",
    "mix": "spatial_gating_unit.conv3",
    "conv5x5": "spatial_gating_unit.conv0",
} | {
    f"conv{a}x{b}": f"spatial_gating_unit.conv{i}_{j}"
    for i, k in enumerate((7, 11, 21))
    for j, (a, b) in enumerate(((1, k), (k, 1)), start=1)
}
FFN = {"expand": "fc1", "conv3x3": "dwconv", "project": "fc2"}
STEM = {"conv1": "proj.0", "norm1": "proj.1", "conv2": "proj.3", "norm2": "proj.4"}
DECODER = {
    "squeeze": "squeeze.conv",
    "squeeze_norm": "squeeze.gn",
    "ham_in": "hamburger.ham_in.conv",
    "ham_out": "hamburger.ham_out.conv",
    "ham_out_norm": "hamburger.ham_out.gn",
    "align": "align.conv",
    "align_norm": "align.gn",
    "classifier": "conv_seg",
}


def peer_name(path: tuple[str, ...]) -> str:
    """('backbone', 'stage1_block0', 'norm1', 'scale') → mmseg's name."""
    part, *modules, leaf = path
    leaf = NORM.get(leaf, "weight" if leaf == "kernel" else leaf)
    if part == "decoder":
        return f"decode_head.{DECODER[modules[0]]}.{leaf}"
    if modules[0] == "stem":
        return f"backbone.patch_embed1.{STEM[modules[1]]}.{leaf}"
    stage, _, rest = modules[0].partition("_")
    stage = stage.removeprefix("stage")
    if rest == "norm":
        return f"backbone.norm{stage}.{leaf}"
    if rest.startswith("embed"):
        return (
            f"backbone.patch_embed{stage}.{'norm' if 'norm' in rest else 'proj'}.{leaf}"
        )
    block = f"backbone.block{stage}.{rest.removeprefix('block')}"
    if scale := re.fullmatch(r"layer_scale(\d)", modules[1]):
        return f"{block}.layer_scale_{scale[1]}"
    if modules[1] == "attention":
        return f"{block}.attn.{ATTENTION[modules[2]]}.{leaf}"
    if modules[1] == "ffn":
        return f"{block}.mlp.{FFN[modules[2]]}.{leaf}"
    return f"{block}.{modules[1]}.{leaf}"


def to_peer(name: str, value: np.ndarray) -> np.ndarray:
    """Flax layout → PyTorch's: kernels become [o i h w]."""
    if value.ndim == 2:
        return value.T[:, :, None, None]
    if value.ndim == 3:
        return value.transpose(2, 0, 1)[:, None]
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    return value


def from_peer(shape: tuple[int, ...], rule) -> np.ndarray:
    """`rule(peer shape)` in Flax layout."""
    peer_shape = to_peer("", np.empty(shape)).shape
    value = rule(peer_shape)
    if len(shape) == 2:
        return value[:, :, 0, 0].T
    if len(shape) == 3:
        return value[:, 0].transpose(1, 2, 0)
    if len(shape) == 4:
        return value.transpose(2, 3, 1, 0)
    return value


def by_rule(tree, rule=golden_fill.fill):
    """Every leaf of params or batch_stats from its mmseg name and shape."""
    flat = flax.traverse_util.flatten_dict(tree)
    filled = {}
    for path, leaf in flat.items():
        name = peer_name(path)
        filled[path] = from_peer(leaf.shape, lambda s, name=name: rule(name, s))
    return flax.traverse_util.unflatten_dict(filled)


def by_peer_name(tree) -> dict[str, np.ndarray]:
    """{mmseg name: leaf in Flax layout}."""
    flat = flax.traverse_util.flatten_dict(tree)
    return {peer_name(path): np.asarray(leaf) for path, leaf in flat.items()}
