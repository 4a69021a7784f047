"""Writes the PyTorch outputs that the parity tests compare with.

Run in the environment of `benchmarks/requirements-torch.txt`, from the root:

    PYTHONPATH=.:tests/models python tools/make_golden.py

Computed in float64 from float32 inputs, stored as float32: what a test measures is
the error of the JAX side alone. Images and features are channels-last.

tests/ops/golden/resize_bilinear.npz, for each `H1xW1_to_H2xW2`:
    <case>/input   [2 h1 w1 3]
    <case>/output  [2 h2 w2 3]   F.interpolate(mode="bilinear", align_corners=False)

tests/models/golden/nmf.npz (mmseg's NMF2D, softmax inverse temperature 1):
    features [b h w d] >= 0;  bases [b d r] before the L2 normalisation over d
    train/output, eval/output [b h w d]      after 6 and 7 steps + last coef update
    train/coef, eval/coef [b n r], train/bases, eval/bases [b d r]   the last ones
    cotangent [b h w d], train/grad [b h w d]   gradient of sum(output * cotangent)
                                                to features, all steps unrolled

tests/models/golden/segnext_t.npz (weights, images, labels, bases: golden_fill.py):
    eval/HxW/stage{1..4} [1 h w c]    backbone outputs after their LayerNorm,
                                      image(1, H, W); HxW: 64x96, 75x100
    eval/HxW/logits [1 h w 19]        decoder output at stride 8
    eval/HxW/logits_full [1 h w 19]   resized to HxW, then [:, ::8, ::8]
    train/loss ()       image(2, 75, 100), label(2, 75, 100), drop path and dropout 0,
                        BatchNorm on batch statistics; mean over valid pixels
    train/loss_all ()   the same sum divided by all pixels (mmseg's default)
    train/grad_name [k] parameter names; of train/loss:
    train/grad_norm [k] L2 norms
    train/grad_dot [k]  sum(gradient * probe(name, shape)), in PyTorch's layout
    train/stats_name [m], train/stats_sum [m]   sums of the BatchNorm running
                        statistics after this step (torch: momentum 0.1, the
                        *unbiased* variance enters running_var)
A convolution bias in front of a BatchNorm has gradient 0 up to rounding.
"""

from pathlib import Path

import golden_fill
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import torch_peer

ROOT = Path(__file__).resolve().parent.parent
RESIZES = (
    ((5, 7), (10, 14)),
    ((4, 6), (13, 17)),
    ((23, 30), (45, 60)),
    ((8, 8), (64, 64)),
    ((1, 3), (4, 9)),
    ((3, 4), (10, 13)),
)
SIZES = ((64, 96), (75, 100))


def main() -> None:
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    _save("tests/ops/golden/resize_bilinear.npz", resize_golden())
    _save("tests/models/golden/nmf.npz", nmf_golden())
    _save("tests/models/golden/segnext_t.npz", model_golden())


def resize_golden() -> dict[str, np.ndarray]:
    """Inputs and outputs of bilinear enlargement."""
    golden: dict[str, np.ndarray] = {}
    for small, large in RESIZES:
        case = "{}x{}_to_{}x{}".format(*small, *large)
        x = golden_fill.uniform(case, (2, *small, 3), -1.0, 1.0)
        y = F.interpolate(_nchw(x), size=large, mode="bilinear", align_corners=False)
        golden |= {f"{case}/input": x, f"{case}/output": _nhwc(y)}
    return golden


def nmf_golden() -> dict[str, np.ndarray]:
    """mmseg's NMF2D on fixed features and bases."""
    torch_peer.build("T", golden_fill.NUM_CLASSES)  # registers mmseg on mmcv-lite
    from mmseg.models.decode_heads.ham_head import NMF2D

    b, h, w, d, r = 2, 5, 7, 32, 8
    features = np.maximum(golden_fill.uniform("features", (b, h, w, d), -1, 1), 0)
    bases = golden_fill.uniform("bases", (b, d, r), 0, 1)
    cotangent = golden_fill.uniform("cotangent", (b, h, w, d), -1, 1)
    golden = {"features": features, "bases": bases, "cotangent": cotangent}
    for mode in ("train", "eval"):
        nmf = NMF2D(dict(MD_S=1, MD_R=r, train_steps=6, eval_steps=7))
        nmf.train(mode == "train")
        normalised = F.normalize(_double(bases), dim=1)
        nmf._build_bases = lambda *_, bases=normalised, **__: bases
        x = _nchw(features).contiguous().requires_grad_()
        output = nmf(x)
        flat = x.view(b, d, h * w)
        last_bases, coef = nmf.local_inference(flat, normalised)
        coef = nmf.compute_coef(flat, last_bases, coef)
        golden |= {
            f"{mode}/output": _nhwc(output),
            f"{mode}/bases": _float32(last_bases),
            f"{mode}/coef": _float32(coef),
        }
        if mode == "train":
            (grad,) = torch.autograd.grad((output * _nchw(cotangent)).sum(), x)
            golden["train/grad"] = _nhwc(grad)
    return golden


def model_golden() -> dict[str, np.ndarray]:
    """SegNeXt-T with the weights of `golden_fill.fill`."""
    golden: dict[str, np.ndarray] = {}
    model = filled_model()
    model.eval()
    for size in SIZES:
        case = "eval/{}x{}".format(*size)
        with torch.inference_mode():
            stages = model.backbone(_nchw(golden_fill.image(1, *size)))
            logits = model.decode_head(stages)
            full = F.interpolate(
                logits, size=size, mode="bilinear", align_corners=False
            )
        golden |= {
            f"{case}/stage{i}": _nhwc(stage) for i, stage in enumerate(stages, 1)
        }
        golden[f"{case}/logits"] = _nhwc(logits)
        golden[f"{case}/logits_full"] = _nhwc(full)[:, ::8, ::8]
    return golden | train_golden(model.train(), SIZES[1])


def train_golden(model: nn.Module, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Loss, gradients and running statistics of one step in train mode."""
    label = golden_fill.label(2, *size)
    loss = torch_peer.loss_fn(
        model, _nchw(golden_fill.image(2, *size)), torch.from_numpy(label).long()
    )
    loss.backward()
    valid = (label != golden_fill.IGNORE_LABEL).mean()
    grads = {name: p.grad for name, p in model.named_parameters()}
    dots = [
        (grad * _double(golden_fill.probe(name, tuple(grad.shape)))).sum().item()
        for name, grad in grads.items()
    ]
    stats = {name: x.sum().item() for name, x in _statistics(model).items()}
    return {
        "train/loss": np.asarray(loss.item(), np.float32),
        "train/loss_all": np.asarray(loss.item() * valid, np.float32),
        "train/grad_name": np.array(list(grads)),
        "train/grad_norm": np.asarray(
            [g.norm().item() for g in grads.values()], np.float32
        ),
        "train/grad_dot": np.asarray(dots, np.float32),
        "train/stats_name": np.array(list(stats)),
        "train/stats_sum": np.asarray(list(stats.values()), np.float32),
    }


def filled_model() -> nn.Module:
    """SegNeXt-T without dropout, every variable and the NMF bases by rule."""
    model = torch_peer.build("T", golden_fill.NUM_CLASSES, drop_path=0.0, dropout=0.0)
    variables = dict(model.named_parameters()) | _statistics(model)
    for name, variable in variables.items():
        variable.data = _double(golden_fill.fill(name, tuple(variable.shape)))

    def build_bases(b: int, s: int, d: int, r: int, device: object) -> torch.Tensor:
        bases = _double(golden_fill.fill(golden_fill.BASES, (d, r)))
        return F.normalize(bases.expand(b * s, d, r), dim=1)

    model.decode_head.hamburger.ham._build_bases = build_bases
    return model


def _statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: x for name, x in model.named_buffers() if "running" in name}


def _double(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x).double()


def _nchw(x: np.ndarray) -> torch.Tensor:
    return _double(x).permute(0, 3, 1, 2)


def _nhwc(x: torch.Tensor) -> np.ndarray:
    return _float32(x.permute(0, 2, 3, 1))


def _float32(x: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.detach().numpy().astype(np.float32))


def _save(path: str, golden: dict[str, np.ndarray]) -> None:
    target = ROOT / path
    target.parent.mkdir(parents=True, exist_ok=True)
    # NumPy's stub takes any keyword for its `allow_pickle: bool`.
    np.savez_compressed(target, **golden)  # type: ignore[arg-type]
    print(f"{path}: {len(golden)} arrays, {target.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
