"""MSCAN, the convolutional backbone of SegNeXt (Guo et al. 2022, section 3.1)."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from segnext_jax.models.layers import (
    Dtype,
    LayerScale,
    StridedConv,
    depthwise_params,
    drop_path,
    pointwise_params,
    scale_examples,
)
from segnext_jax.models.stack import Remat, Stack
from segnext_jax.ops.conv_gelu import conv_gelu
from segnext_jax.ops.depthwise import Implementation, Layer
from segnext_jax.ops.feed_forward import choose_tile, feed_forward_by_tiles
from segnext_jax.ops.gelu import gelu
from segnext_jax.ops.halo import AxisName
from segnext_jax.ops.keep import keep
from segnext_jax.ops.matmul import matmul
from segnext_jax.ops.multi_scale import multi_scale_conv
from segnext_jax.ops.valid import Size, halve, zero_outside

_MLP_RATIOS = (8, 8, 4, 4)
_STRIP_LENGTHS = (7, 11, 21)
EPSILON = 1e-5


class MSCAN(nn.Module):
    """Image → features at strides 4, 8, 16 and 32, one a stage.

    `[b h w 3]`, normalised → list of `[b h/s w/s embed_dims[i]]` in `dtype`. Needs the
    rng stream `drop_path` when training. Of images smaller than their array, `size`
    int32 [b 2], the features inside them are what they are without the rest. Devices
    that share the rows of the images (ops/halo.py) give the name of their axis; each
    must have at least one row of every stage.
    """

    embed_dims: tuple[int, ...]
    depths: tuple[int, ...]
    drop_path_rate: float = 0.1
    dtype: Dtype = jnp.float32
    depthwise: Implementation = "auto"
    is_folded: bool = False  # the convolutions hold the norms: models/folding.py
    remat: Remat = "none"
    axis_name: AxisName = None

    @nn.compact
    def __call__(
        self, x: jax.Array, *, train: bool, size: Size = None
    ) -> list[jax.Array]:
        rates = np.linspace(0, self.drop_path_rate, sum(self.depths))
        scales = None
        if train and self.drop_path_rate > 0:
            scales = drop_path(self.make_rng("drop_path"), rates, x.shape[0])
        norm = make_batch_norm(self.dtype, self.axis_name, train=train)
        # Blocks are initialised under vmap, for which kernels have no rule.
        depthwise = "xla" if self.is_initializing() else self.depthwise
        features = []
        for i, dim in enumerate(self.embed_dims):
            stage = f"stage{i + 1}"
            if i == 0:
                stem = Stem(
                    dim,
                    self.dtype,
                    depthwise,
                    self.is_folded,
                    self.axis_name,
                    name="stem",
                )
                x = stem(x, train=train, size=size)
                size = halve(halve(size))
            else:
                conv = StridedConv(
                    dim,
                    self.dtype,
                    depthwise,
                    self.axis_name,
                    name=f"{stage}_embed",
                )
                x = conv(zero_outside(x, size))
                if not self.is_folded:
                    x = norm(name=f"{stage}_embed_norm")(x)
                size = halve(size)
            block = Block(
                mlp_ratio=_MLP_RATIOS[i],
                dtype=self.dtype,
                depthwise=depthwise,
                is_folded=self.is_folded,
                axis_name=self.axis_name,
                parent=None,
            )
            first = sum(self.depths[:i])
            own = None if scales is None else scales[first : first + self.depths[i]]
            blocks = Stack(block, self.depths[i], self.remat, name=f"{stage}_blocks")
            x = blocks(x, own, train=train, size=size)
            x = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name=f"{stage}_norm")(x)
            features.append(x)
        return features


class Stem(nn.Module):
    """Two 3×3 convolutions of stride 2: [b h w 3] → [b h/4 w/4 dim]."""

    dim: int
    dtype: Dtype
    implementation: Implementation
    is_folded: bool
    axis_name: AxisName

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, size: Size = None) -> jax.Array:
        norm = make_batch_norm(self.dtype, self.axis_name, train=train)
        conv = partial(
            StridedConv,
            dtype=self.dtype,
            implementation=self.implementation,
            axis_name=self.axis_name,
        )
        x = zero_outside(x, size)
        x = conv(self.dim // 2, name="conv1")(x)
        if not self.is_folded:
            x = norm(name="norm1")(x)
        x = gelu(x)
        x = zero_outside(x, halve(size))
        x = conv(self.dim, name="conv2")(x)
        return x if self.is_folded else norm(name="norm2")(x)


class Block(nn.Module):
    """Attention and feed-forward network, both residual (figure 2a): [b h w c].

    `scales` [2 b], of `drop_path`, are those of the two branches.
    """

    mlp_ratio: int
    dtype: Dtype
    depthwise: Implementation
    is_folded: bool
    axis_name: AxisName

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        scales: jax.Array | None,
        *,
        train: bool,
        size: Size = None,
    ) -> jax.Array:
        attention = Attention(
            self.dtype,
            self.depthwise,
            self.is_folded,
            self.axis_name,
            name="attention",
        )
        ffn = FeedForward(
            self.mlp_ratio, self.dtype, self.depthwise, self.axis_name, name="ffn"
        )
        if self.is_folded:
            x = attention(x, size)
            return x + ffn(x, train=train, size=size)
        norm = make_batch_norm(self.dtype, self.axis_name, train=train)
        first, second = (None, None) if scales is None else scales

        y = norm(name="norm1")(x)
        y = attention(y, size)
        y = LayerScale(self.dtype, name="layer_scale1")(y)
        x = x + scale_examples(y, first)

        y = norm(name="norm2")(x)
        y = keep(ffn(y, train=train, size=size))
        y = LayerScale(self.dtype, name="layer_scale2")(y)
        return x + scale_examples(y, second)


class Attention(nn.Module):
    """Multi-scale convolutional attention between two projections: [b h w c]."""

    dtype: Dtype
    depthwise: Implementation
    is_folded: bool
    axis_name: AxisName

    @nn.compact
    def __call__(self, x: jax.Array, size: Size = None) -> jax.Array:
        y = self._pointwise(x, name="proj1")
        y = gelu(y)
        y = y * self._weights(y, size)
        if self.is_folded:  # of the block, too
            x = LayerScale(self.dtype, name="shortcut")(x)
        return x + self._pointwise(y, name="proj2")

    def _weights(self, x: jax.Array, size: Size) -> jax.Array:
        """A 5×5 convolution, three pairs of strips on top, and their mix (eq. 1)."""
        dim = x.shape[-1]

        def params(kh: int, kw: int) -> Layer:
            return depthwise_params((kh, kw), dim, self.dtype, name=f"conv{kh}x{kw}")

        total = multi_scale_conv(
            x,
            params(5, 5),
            [(params(1, k), params(k, 1)) for k in _STRIP_LENGTHS],
            implementation=self.depthwise,
            axis_name=self.axis_name,
            size=size,
        )
        return self._pointwise(total, name="mix")

    def _pointwise(self, x: jax.Array, *, name: str) -> jax.Array:
        layer = pointwise_params(x.shape[-1], x.shape[-1], self.dtype, name=name)
        x = x.astype(self.dtype)
        return keep(matmul(x, layer.kernel, implementation=self.depthwise) + layer.bias)


class FeedForward(nn.Module):
    """Expand, 3×3 depthwise, exact GELU, project: [b h w c]."""

    ratio: int
    dtype: Dtype
    depthwise: Implementation
    axis_name: AxisName = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool, size: Size = None) -> jax.Array:
        dim = x.shape[-1]
        hidden = self.ratio * dim
        x = x.astype(self.dtype)
        expand = pointwise_params(dim, hidden, self.dtype, name="expand")
        project = pointwise_params(hidden, dim, self.dtype, name="project")
        conv = depthwise_params((3, 3), hidden, self.dtype, name="conv3x3")
        tile = None
        if self.depthwise == "auto" and self.axis_name is None:
            tile = choose_tile(x, hidden, train=train)
        if tile:
            return feed_forward_by_tiles(x, expand, conv, project, tile=tile, size=size)
        product = partial(matmul, implementation=self.depthwise)
        y = conv_gelu(
            product(x, expand.kernel),
            expand.bias,
            conv,
            implementation=self.depthwise,
            axis_name=self.axis_name,
            size=size,
        )
        return product(y, project.kernel) + project.bias


def make_batch_norm(
    dtype: Dtype, axis_name: AxisName, *, train: bool
) -> partial[nn.BatchNorm]:
    """BatchNorm as published. Flax's momentum is 1 − PyTorch's.

    Under jit the batch is one global array, so its moments are those of all devices;
    only an axis that shares rows has to be named.
    """
    return partial(
        nn.BatchNorm,
        use_running_average=not train,
        momentum=0.9,
        epsilon=EPSILON,
        dtype=dtype,
        axis_name=axis_name,
    )
