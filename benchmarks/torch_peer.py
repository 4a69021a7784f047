"""mmsegmentation's SegNeXt: the PyTorch side of benchmarks and parity checks.

Runs in the environment of `requirements-torch.txt`, and imports nothing of JAX.

    python -m benchmarks.torch_peer --variant T --batch 2 --size 512 --steps 10

prints one JSON line with the median time of a train step, or with `--run forward` of
the classes of whole images at their size, and the peak of the memory. With `--serve` it
prints one JSON line when it is warm and then answers each line of stdin, `step` or
`forward`, with the seconds of one, and `peak` with bytes, until `quit`, so that another
framework can be timed in alternation with it. bfloat16 is autocast's.
"""

import argparse
import contextlib
import json
import logging
import os
import resource
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.host_memory import keep_freed_memory


class Variant(NamedTuple):
    dims: tuple[int, ...]
    depths: tuple[int, ...]
    ham_channels: int
    drop_path: float


# segnext_mscan-{t,s,b,l}_1xb16-adamw-160k_ade20k-512x512.py of mmsegmentation 1.2.2.
VARIANTS = {
    "T": Variant((32, 64, 160, 256), (3, 3, 5, 2), ham_channels=256, drop_path=0.1),
    "S": Variant((64, 128, 320, 512), (2, 2, 4, 2), ham_channels=256, drop_path=0.1),
    "B": Variant((64, 128, 320, 512), (3, 3, 12, 3), ham_channels=512, drop_path=0.1),
    "L": Variant((64, 128, 320, 512), (3, 5, 27, 3), ham_channels=1024, drop_path=0.3),
}
IGNORE_LABEL = 255


def build(
    variant: Variant,
    num_classes: int,
    *,
    drop_path: float | None = None,
    dropout: float = 0.1,
    nmf_rank: int = 16,
) -> nn.Module:
    """mmsegmentation's SegNeXt, scratch-initialised, NCHW [b 3 h w] in.

    `drop_path` None is the variant's published rate. The authors' B and L have an
    `nmf_rank` of 64.
    """
    stub_mmcv_ext()
    import mmseg.models  # noqa: F401 (fills the registry)
    from mmseg.registry import MODELS

    config = dict(
        type="EncoderDecoder",
        backbone=dict(
            type="MSCAN",
            embed_dims=list(variant.dims),
            mlp_ratios=[8, 8, 4, 4],
            drop_rate=0.0,
            drop_path_rate=variant.drop_path if drop_path is None else drop_path,
            depths=list(variant.depths),
            norm_cfg=dict(type="BN", requires_grad=True),
        ),
        decode_head=dict(
            type="LightHamHead",
            in_channels=list(variant.dims[1:]),
            in_index=[1, 2, 3],
            channels=variant.ham_channels,
            ham_channels=variant.ham_channels,
            dropout_ratio=dropout,
            num_classes=num_classes,
            norm_cfg=dict(type="GN", num_groups=32, requires_grad=True),
            align_corners=False,
            loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False),
            ham_kwargs=dict(MD_S=1, MD_R=nmf_rank, train_steps=6, eval_steps=7),
        ),
        train_cfg=dict(),
        test_cfg=dict(mode="whole"),
    )
    with quiet():
        model = MODELS.build(config)
        model.backbone.init_weights()
        model.decode_head.init_weights()
    return model


def make_optimizer(model: nn.Module, peak: float = 6e-5) -> torch.optim.Optimizer:
    """AdamW with the published multipliers: `head` lr x10, `norm` without decay."""
    groups: dict[str, list[nn.Parameter]] = {"head": [], "norm": [], "other": []}
    for name, parameter in model.named_parameters():
        key = "head" if "head" in name else "norm" if "norm" in name else "other"
        groups[key].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups["head"], "lr": 10 * peak},
            {"params": groups["norm"], "weight_decay": 0.0},
            {"params": groups["other"]},
        ],
        lr=peak,
        betas=(0.9, 0.999),
        weight_decay=0.01,
        fused=True,
    )


class Network(nn.Module):
    """An EncoderDecoder as images → logits at stride 8."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.model.decode_head(self.model.backbone(image))


def loss_fn(
    network: nn.Module, image: torch.Tensor, label: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy at label size, mean over valid pixels; label [b h w] int64."""
    logits = network(image)
    logits = F.interpolate(
        logits, size=label.shape[1:], mode="bilinear", align_corners=False
    )
    return F.cross_entropy(logits, label, ignore_index=IGNORE_LABEL)


def make_timers(
    variant: str,
    num_classes: int,
    batch: int,
    size: tuple[int, int],
    clock: Callable[[], float],
    *,
    device: str,
    dtype: str,
    compiled: bool,
) -> dict[str, Callable[[], float]]:
    """`step` and `forward`: run once on random data, return seconds of the clock."""
    torch.manual_seed(0)
    model = build(VARIANTS[variant], num_classes)
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(model)
    image = torch.randn(batch, 3, *size).to(device, memory_format=torch.channels_last)
    label = torch.randint(num_classes, (batch, *size), device=device)
    label[:, : size[0] // 16] = IGNORE_LABEL
    autocast = torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16")
    network = torch.compile(Network(model)) if compiled else Network(model)

    def step() -> None:
        model.train()
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            loss = loss_fn(network, image, label)
        loss.backward()
        optimizer.step()
        loss.item()

    @torch.inference_mode()
    def forward() -> None:
        model.eval()
        with autocast:
            logits = network(image)
            F.interpolate(logits, size=size, mode="bilinear").argmax(dim=1)
        if device == "cuda":
            torch.cuda.synchronize()

    def timed(run: Callable[[], None]) -> float:
        start = clock()
        run()
        return clock() - start

    return {"step": lambda: timed(step), "forward": lambda: timed(forward)}


def main() -> None:
    args = _parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[args.clock]
    timers = make_timers(
        args.variant,
        args.num_classes,
        args.batch,
        args.size,
        clock,
        device=args.device,
        dtype=args.dtype,
        compiled=args.compile,
    )
    for _ in range(args.warmup):
        timers[args.run]()
    config = dict(
        framework=f"torch {torch.__version__}",
        variant=args.variant,
        num_classes=args.num_classes,
        batch=args.batch,
        size=args.size,
        threads=args.threads,
        memory_format="channels_last",
        device=args.device,
        dtype=args.dtype,
        compiled=args.compile,
    )
    if args.serve:
        print(json.dumps({"config": config}), flush=True)
        answers = {**timers, "peak": lambda: peak_bytes(args.device)}
        for command in _commands():
            if command not in answers:
                raise ValueError(
                    f"command {command!r} on stdin: write one of"
                    f" {', '.join(answers)}, quit"
                )
            print(answers[command](), flush=True)
    else:
        seconds = [timers[args.run]() for _ in range(args.steps)]
        median = statistics.median(seconds)
        result = {"median_s": median, "peak_bytes": peak_bytes(args.device)}
        print(json.dumps({**result, "all": seconds, "config": config}))


def peak_bytes(device: str) -> int:
    """The most that tensors took on a GPU until now; on a CPU, the whole process."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _commands() -> Iterator[str]:
    for line in sys.stdin:
        if line.strip() == "quit":
            return
        yield line.strip()


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variant", choices=tuple(VARIANTS), default="T")
    parser.add_argument("--num-classes", type=int, default=19)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument(
        "--size", type=int, nargs="+", default=[512], help="side, or height and width"
    )
    parser.add_argument("--run", choices=("step", "forward"), default="step")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--serve", action="store_true", help="take commands on stdin")
    args = parser.parse_args()
    if len(args.size) > 2:
        parser.error(f"--size {args.size}: give one number, or height and width")
    args.size = (args.size[0], args.size[-1])
    return args


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep mmseg's deprecations and its report on every tensor off the terminal."""
    logging.disable(logging.INFO)
    with contextlib.redirect_stdout(None), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def stub_mmcv_ext() -> None:
    """Let mmseg import on mmcv-lite: any compiled operator is found, as None.

    mmseg's decode heads import `mmcv.ops`, whose modules look their operators up in
    the extension at import; SegNeXt calls none of them.
    """

    class Extension(types.ModuleType):
        def __getattr__(self, name: str) -> None:
            if name.startswith("__"):
                raise AttributeError(name)

    sys.modules.setdefault("mmcv._ext", Extension("mmcv._ext"))


if __name__ == "__main__":
    main()
