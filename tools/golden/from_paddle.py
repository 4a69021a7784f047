"""PaddleSeg's goldens; weights, images and bases by the rules of golden_fill.py.

tests/weights/golden/tiny.pdparams   the small model, saved by paddle.save
tests/weights/golden/paddleseg.npz:
    names/{T,S,B,L}                  "name shape" of every tensor
    HxW/stage{1..4} [1 h w c]        of the small model, HxW: 64x96, 50x67
    HxW/logits [1 h w 19]            decoder output at stride 8
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import golden_fill
import numpy as np
import paddle
import paddle.nn.functional as F

from benchmarks import paddle_peer
from tools.golden import files

FOLDER = "tests/weights/golden"


def main() -> None:
    variant = paddle_peer.Variant(
        files.TINY_DIMS, files.TINY_DEPTHS, files.TINY_CHANNELS
    )
    model = filled_model(variant, files.TINY_RANK)
    (files.ROOT / FOLDER).mkdir(parents=True, exist_ok=True)
    paddle.save(model.state_dict(), str(files.ROOT / FOLDER / "tiny.pdparams"))
    golden = {
        f"names/{name}": files.table(
            {
                n: tuple(x.shape)
                for n, x in paddle_peer.build(variant, golden_fill.NUM_CLASSES)
                .state_dict()
                .items()
            }
        )
        for name, variant in paddle_peer.VARIANTS.items()
    }
    files.save(f"{FOLDER}/paddleseg.npz", golden | forward(model, files.TINY_SIZES))


def export(
    variant: str, path: str, sizes: Sequence[tuple[int, int]], layer_scale: float
) -> None:
    """Saves a full-size model at `path` (.pdparams), its outputs beside it (.npz)."""
    model = filled_model(paddle_peer.VARIANTS[variant], layer_scale=layer_scale)
    paddle.save(model.state_dict(), path)
    files.save(str(Path(path).with_suffix(".npz")), forward(model, sizes))


def check_equal(variant: str, path: str, again: str) -> None:
    """Raises unless Paddle loads `again` strictly, with the tensors of `path`."""
    model = paddle_peer.build(paddle_peer.VARIANTS[variant], golden_fill.NUM_CLASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of what does not fit, Paddle only warns
        missing, unexpected = model.set_state_dict(paddle.load(again))
    assert not missing and not unexpected, (missing, unexpected)
    expected = paddle.load(path)
    for name, x in model.state_dict().items():
        assert x.dtype == expected[name].dtype, name
        assert bool((x == expected[name]).all()), name


def forward(
    model: paddle.nn.Layer, sizes: Sequence[tuple[int, int]]
) -> dict[str, np.ndarray]:
    """HxW/stage1…4 and HxW/logits of image(1, H, W)."""
    outputs: dict[str, np.ndarray] = {}
    for size in sizes:
        image = paddle.to_tensor(golden_fill.image(1, *size).transpose(0, 3, 1, 2))
        with paddle.no_grad():
            stages = model.backbone(image)
            logits = model.decode_head(stages)
        case = "{}x{}".format(*size)
        outputs |= {f"{case}/stage{i}": _nhwc(x) for i, x in enumerate(stages, 1)}
        outputs[f"{case}/logits"] = _nhwc(logits)
    return outputs


def filled_model(
    variant: paddle_peer.Variant, nmf_rank: int = 16, layer_scale: float = 0.5
) -> paddle.nn.Layer:
    """SegNeXt with every variable and the NMF bases by rule."""
    model = paddle_peer.build(variant, golden_fill.NUM_CLASSES, nmf_rank=nmf_rank)
    model.set_state_dict(
        {
            n: golden_fill.fill(n, tuple(x.shape), layer_scale)
            for n, x in model.state_dict().items()
        }
    )

    def build_bases(b: int, s: int, d: int, r: int) -> paddle.Tensor:
        bases = paddle.to_tensor(golden_fill.fill(golden_fill.BASES, (d, r)))
        return F.normalize(bases.expand([b * s, d, r]), axis=1)

    model.decode_head.hamburger.ham._build_bases = build_bases
    return model


def _nhwc(x: paddle.Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.numpy().transpose(0, 2, 3, 1))
