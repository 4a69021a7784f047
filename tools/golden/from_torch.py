"""PyTorch's goldens: its own operators, and mmsegmentation's model.

Computed in float64 from float32 inputs, stored as float32: what a test measures is
the error of the JAX side alone. Images and features are channels-last. Weights, images,
labels and bases of whole models are by the rules of golden_fill.py.

tests/ops/golden/resize_bilinear.npz, for each `H1xW1_to_H2xW2`:
    <case>/input   [2 h1 w1 3]
    <case>/output  [2 h2 w2 3]   F.interpolate(mode="bilinear", align_corners=False)

tests/models/golden/nmf.npz (mmseg's NMF2D, softmax inverse temperature 1):
    features [b h w d] >= 0;  bases [b d r] before the L2 normalisation over d
    train/output, eval/output [b h w d]      after 6 and 7 steps + last coef update
    train/coef, eval/coef [b n r], train/bases, eval/bases [b d r]   the last ones
    cotangent [b h w d], train/grad [b h w d]   gradient of sum(output * cotangent)
                                                to features, all steps unrolled

tests/models/golden/segnext_t.npz:
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

tests/weights/golden/mmseg.npz, of a small model:
    names/{T,S,B,L}                   "name shape" of every tensor of the variant
    HxW/stage{1..4}, HxW/logits       as above, HxW: 64x96, 50x67
    steps/loss [10], steps/lr [10]    ten AdamW steps with the authors' groups and
                                      schedule (peak 2e-3, 3 steps of warm-up from the
                                      ratio 1e-6), image(2, 64, 96), label(2, 64, 96)
"""

import golden_fill
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import torch_peer
from tools.golden import files

RESIZES = (
    ((5, 7), (10, 14)),
    ((4, 6), (13, 17)),
    ((23, 30), (45, 60)),
    ((8, 8), (64, 64)),
    ((1, 3), (4, 9)),
    ((3, 4), (10, 13)),
)
SIZES = ((64, 96), (75, 100))
TINY = torch_peer.Variant(
    files.TINY_DIMS, files.TINY_DEPTHS, files.TINY_CHANNELS, drop_path=0.0
)
PEAK, WARMUP_STEPS, WARMUP_RATIO, NUM_STEPS = 2e-3, 3, 1e-6, 10


def main() -> None:
    torch.set_num_threads(2)
    torch.set_default_dtype(torch.float64)
    files.save("tests/ops/golden/resize_bilinear.npz", resize_golden())
    files.save("tests/models/golden/nmf.npz", nmf_golden())
    files.save("tests/models/golden/segnext_t.npz", model_golden())
    files.save("tests/weights/golden/mmseg.npz", names_golden() | tiny_golden())


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
    torch_peer.build(TINY, golden_fill.NUM_CLASSES)  # registers mmseg on mmcv-lite
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
    model = filled_model(torch_peer.VARIANTS["T"])
    for size in SIZES:
        case = "eval/{}x{}".format(*size)
        outputs = forward(model, size)
        full = F.interpolate(
            _nchw(outputs["logits"]), size=size, mode="bilinear", align_corners=False
        )
        golden |= {f"{case}/{name}": x for name, x in outputs.items()}
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


def names_golden() -> dict[str, np.ndarray]:
    """Names and shapes of the state dicts that mmsegmentation saves."""
    golden = {}
    for name, variant in torch_peer.VARIANTS.items():
        state = torch_peer.build(variant, golden_fill.NUM_CLASSES).state_dict()
        shapes = {n: tuple(x.shape) for n, x in state.items()}
        golden[f"names/{name}"] = files.table(shapes)
    return golden


def tiny_golden() -> dict[str, np.ndarray]:
    """The small model's outputs, and what it learns in ten steps."""
    model = filled_model(TINY, nmf_rank=files.TINY_RANK)
    golden = {
        "{}x{}/{}".format(*size, name): x
        for size in files.TINY_SIZES
        for name, x in forward(model, size).items()
    }
    losses, learning_rates = steps(model, files.TINY_SIZES[0], PEAK)
    golden["steps/loss"] = np.asarray(losses, np.float32)
    golden["steps/lr"] = np.asarray(learning_rates)
    return golden


def forward(model: nn.Module, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """stage1…4 and logits of image(1, *size) in evaluation mode."""
    model.eval()
    dtype = next(model.parameters()).dtype
    with torch.inference_mode():
        stages = model.backbone(_nchw(golden_fill.image(1, *size)).to(dtype))
        logits = model.decode_head(stages)
    outputs = {f"stage{i}": _nhwc(stage) for i, stage in enumerate(stages, 1)}
    return outputs | {"logits": _nhwc(logits)}


def steps(
    model: nn.Module, size: tuple[int, int], peak: float
) -> tuple[list[float], list[float]]:
    """Losses and learning rates of the backbone in `NUM_STEPS` steps on one batch."""
    model.train()
    optimizer = torch_peer.make_optimizer(model, peak)
    base = [group["lr"] for group in optimizer.param_groups]
    dtype = next(model.parameters()).dtype
    image = _nchw(golden_fill.image(2, *size)).to(dtype)
    label = torch.from_numpy(golden_fill.label(2, *size)).long()
    losses, learning_rates = [], []
    for step in range(NUM_STEPS):
        # mmcv 1.x: PolyLrUpdaterHook with power 1, times its linear warm-up.
        factor = 1 - step / NUM_STEPS
        if step < WARMUP_STEPS:
            factor *= 1 - (1 - step / WARMUP_STEPS) * (1 - WARMUP_RATIO)
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * factor
        optimizer.zero_grad()
        loss = torch_peer.loss_fn(model, image, label)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        learning_rates.append(peak * factor)
    return losses, learning_rates


def filled_model(
    variant: torch_peer.Variant, nmf_rank: int = 16, layer_scale: float = 0.5
) -> nn.Module:
    """SegNeXt without dropout, every variable and the NMF bases by rule."""
    model = torch_peer.build(
        variant,
        golden_fill.NUM_CLASSES,
        drop_path=0.0,
        dropout=0.0,
        nmf_rank=nmf_rank,
    )
    variables = dict(model.named_parameters()) | _statistics(model)
    for name, variable in variables.items():
        x = golden_fill.fill(name, tuple(variable.shape), layer_scale)
        variable.data = torch.from_numpy(x).to(torch.get_default_dtype())

    def build_bases(b: int, s: int, d: int, r: int, device: object) -> torch.Tensor:
        bases = torch.from_numpy(golden_fill.fill(golden_fill.BASES, (d, r)))
        bases = bases.to(torch.get_default_dtype())
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
