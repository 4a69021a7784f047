"""What every implementation calls the tensors of SegNeXt, and how it lays them out.

The names here are the paths in the Flax tree, e.g. `backbone/stem/conv1/kernel`. The
names there were read from state dicts of the built peers.
"""

import re
from dataclasses import dataclass

import numpy as np

# Module here → module there; {s} is a stage from 1, {b} a block from 0.
_MMSEG = {
    "backbone/stem/conv1": "backbone.patch_embed1.proj.0",
    "backbone/stem/norm1": "backbone.patch_embed1.proj.1",
    "backbone/stem/conv2": "backbone.patch_embed1.proj.3",
    "backbone/stem/norm2": "backbone.patch_embed1.proj.4",
    "backbone/stage{s}_embed": "backbone.patch_embed{s}.proj",
    "backbone/stage{s}_embed_norm": "backbone.patch_embed{s}.norm",
    "backbone/stage{s}_norm": "backbone.norm{s}",
    "decoder/squeeze": "decode_head.squeeze.conv",
    "decoder/squeeze_norm": "decode_head.squeeze.gn",
    "decoder/ham_in": "decode_head.hamburger.ham_in.conv",
    "decoder/ham_out": "decode_head.hamburger.ham_out.conv",
    "decoder/ham_out_norm": "decode_head.hamburger.ham_out.gn",
    "decoder/align": "decode_head.align.conv",
    "decoder/align_norm": "decode_head.align.gn",
    "decoder/classifier": "decode_head.conv_seg",
}
_IMAGENET_HEAD = {"head": "head"}  # PaddleSeg has none
# The same below backbone/stage{s}_block{b}, there backbone.block{s}.{b}.
_MMSEG_BLOCK = {
    "norm1": "norm1",
    "attention/proj1": "attn.proj_1",
    "attention/conv5x5": "attn.spatial_gating_unit.conv0",
    "attention/conv1x7": "attn.spatial_gating_unit.conv0_1",
    "attention/conv7x1": "attn.spatial_gating_unit.conv0_2",
    "attention/conv1x11": "attn.spatial_gating_unit.conv1_1",
    "attention/conv11x1": "attn.spatial_gating_unit.conv1_2",
    "attention/conv1x21": "attn.spatial_gating_unit.conv2_1",
    "attention/conv21x1": "attn.spatial_gating_unit.conv2_2",
    "attention/mix": "attn.spatial_gating_unit.conv3",
    "attention/proj2": "attn.proj_2",
    "layer_scale1": "layer_scale_1",
    "norm2": "norm2",
    "ffn/expand": "mlp.fc1",
    "ffn/conv3x3": "mlp.dwconv",
    "ffn/project": "mlp.fc2",
    "layer_scale2": "layer_scale_2",
}
# Where the others differ from mmsegmentation 1.x.
_OFFICIAL_BLOCK = {"ffn/conv3x3": "mlp.dwconv.dwconv"}
_PADDLE = {
    "decoder/squeeze": "decode_head.squeeze._conv",
    "decoder/squeeze_norm": "decode_head.squeeze._group_norm",
    "decoder/ham_in": "decode_head.hamburger.ham_in",
    "decoder/ham_out": "decode_head.hamburger.ham_out._conv",
    "decoder/ham_out_norm": "decode_head.hamburger.ham_out._group_norm",
    "decoder/align": "decode_head.align._conv",
    "decoder/align_norm": "decode_head.align._group_norm",
}
_PADDLE_BLOCK = {
    "attention/conv1x7": "attn.spatial_gating_unit.dwconvs.0.conv1_1",
    "attention/conv7x1": "attn.spatial_gating_unit.dwconvs.0.conv1_2",
    "attention/conv1x11": "attn.spatial_gating_unit.dwconvs.1.conv2_1",
    "attention/conv11x1": "attn.spatial_gating_unit.dwconvs.1.conv2_2",
    "attention/conv1x21": "attn.spatial_gating_unit.dwconvs.2.conv3_1",
    "attention/conv21x1": "attn.spatial_gating_unit.dwconvs.2.conv3_2",
    "attention/mix": "attn.spatial_gating_unit.conv_out",
}
_TORCH_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_PADDLE_LEAVES = _TORCH_LEAVES | {"mean": "_mean", "var": "_variance"}


def _join(modules: dict[str, str], block: dict[str, str]) -> dict[str, str]:
    return modules | {
        f"backbone/stage{{s}}_block{{b}}/{here}": f"backbone.block{{s}}.{{b}}.{there}"
        for here, there in block.items()
    }


@dataclass(frozen=True)
class Naming:
    """Names and layouts of one implementation."""

    label: str
    modules: dict[str, str]
    leaves: dict[str, str]
    layer_scale_shape: tuple[int, ...]
    # PyTorch counts the batches of every BatchNorm, for an option that nobody uses.
    counter: str | None

    def name(self, path: str, *, bare: bool = False) -> str:
        """backbone/stem/conv1/kernel → backbone.patch_embed1.proj.0.weight.

        `bare` leaves out the leading `backbone.`, as files of a backbone alone do.
        """
        module, _, leaf = path.rpartition("/")
        there = self._module(module)
        if "layer_scale" not in module:
            there = f"{there}.{self.leaves[leaf]}"
        return there.removeprefix("backbone.") if bare else there

    def counter_of(self, path: str, *, bare: bool = False) -> str | None:
        """The counter that goes with a BatchNorm's mean; None for all else."""
        if self.counter is None or not path.endswith("/mean"):
            return None
        return self.name(path, bare=bare).removesuffix(self.leaves["mean"]) + (
            self.counter
        )

    def prefixes(self, module: str) -> tuple[str, ...]:
        """How all names there begin that belong to `module`, without a block."""
        return tuple(
            f"{there}."
            for here, there in self.modules.items()
            if f"{here}/".startswith(f"{module}/")
        )

    def export(self, path: str, x: np.ndarray) -> np.ndarray:
        """This project's layout → theirs: kernels become [o i h w]."""
        if "layer_scale" in path:
            return x.reshape(x.shape[0], *self.layer_scale_shape)
        if path == "head/kernel":
            return x.T
        if x.ndim == 2:  # 1×1 convolution as a matrix product
            return x.T[:, :, None, None]
        if x.ndim == 3:  # depthwise
            return x.transpose(2, 0, 1)[:, None]
        if x.ndim == 4:
            return x.transpose(3, 2, 0, 1)
        return x

    def adopt(self, path: str, x: np.ndarray, ndim: int) -> np.ndarray:
        """Their layout → this project's of `ndim` dimensions: undoes `export`."""
        if "layer_scale" in path:
            return x.reshape(-1)
        if path == "head/kernel":
            return x.T
        if ndim == 2:
            return x[:, :, 0, 0].T
        if ndim == 3:
            return x[:, 0].transpose(1, 2, 0)
        if ndim == 4:
            return x.transpose(2, 3, 1, 0)
        return x

    def _module(self, module: str) -> str:
        for here, there in self.modules.items():
            pattern = here.replace("{s}", r"(?P<s>\d)").replace("{b}", r"(?P<b>\d+)")
            if match := re.fullmatch(pattern, module):
                return there.format(**match.groupdict())
        raise ValueError(f"{self.label} has no counterpart of {module}")


class _Native(Naming):
    """This project's own, as its checkpoints and safetensors files have them."""

    def name(self, path: str, *, bare: bool = False) -> str:
        return path

    def prefixes(self, module: str) -> tuple[str, ...]:
        return (f"{module}/",)

    def export(self, path: str, x: np.ndarray) -> np.ndarray:
        return x

    def adopt(self, path: str, x: np.ndarray, ndim: int) -> np.ndarray:
        return x


NATIVE = _Native("native", {}, {}, layer_scale_shape=(), counter=None)
OFFICIAL = Naming(
    "official",
    _join(_MMSEG | _IMAGENET_HEAD, _MMSEG_BLOCK | _OFFICIAL_BLOCK),
    _TORCH_LEAVES,
    layer_scale_shape=(),
    counter="num_batches_tracked",
)
MMSEG = Naming(
    "mmseg",
    _join(_MMSEG | _IMAGENET_HEAD, _MMSEG_BLOCK),
    _TORCH_LEAVES,
    layer_scale_shape=(),
    counter="num_batches_tracked",
)
PADDLESEG = Naming(
    "paddleseg",
    _join(_MMSEG | _PADDLE, _MMSEG_BLOCK | _PADDLE_BLOCK),
    _PADDLE_LEAVES,
    layer_scale_shape=(1, 1),
    counter=None,
)

NAMINGS = {naming.label: naming for naming in (NATIVE, OFFICIAL, MMSEG, PADDLESEG)}


def detect(names: list[str], origin: str) -> Naming:
    """Whose names these are. Raises ValueError if they are nobody's."""
    for infix, naming in (
        ("/ffn/conv3x3/", NATIVE),
        (".dwconvs.", PADDLESEG),
        (".mlp.dwconv.dwconv.", OFFICIAL),
        (".mlp.dwconv.", MMSEG),
    ):
        if any(infix in name for name in names):
            return naming
    raise ValueError(
        f"{origin} holds no MSCAN: its {len(names)} tensors are called "
        f"{', '.join(names[:3])}{', …' * (len(names) > 3)}"
    )
