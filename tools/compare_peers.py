"""Compares every variant, at full size, with the peers. The test suite has small ones.

In an environment that has requirements.txt and benchmarks/requirements-torch.txt, with
the Python of another that has benchmarks/requirements-paddle.txt:

    PYTHONPATH=.:tests/models python -m tools.compare_peers --paddle PADDLE/bin/python

Weights, BatchNorm statistics, images and NMF bases are random, the same on both sides,
float32. Each peer saves its own file, which is read here and written again; that must
hold the same bits, and the peer must load it strictly. Prints a table; exits with 1 if
anything differs by more than 1e-4 of the peer's largest magnitude (outputs) or 1e-3
(loss, gradients, ten steps).
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import golden_fill
import golden_model
import jax
import numpy as np
import optax
import torch

from benchmarks import torch_peer
from configs import common
from segnext_jax.models.classifier import make_classifier
from segnext_jax.models.segnext import VARIANTS, SegNeXt, make_model
from segnext_jax.ops import nmf
from segnext_jax.ops.resize import resize_bilinear
from segnext_jax.training.losses import cross_entropy
from segnext_jax.training.optimizer import make_optimizer, make_schedule
from segnext_jax.weights import convert, files
from segnext_jax.weights.description import Description
from segnext_jax.weights.naming import MMSEG, OFFICIAL, PADDLESEG, Naming
from tools.golden import from_torch

SIZES = ((128, 192), (250, 333))
# The upper end: what random blocks make of an image grows with their number.
LAYER_SCALES = {"T": 0.5, "S": 0.5, "B": 0.05, "L": 0.02}
OUTPUT_BOUND = 1e-4
TRAIN_BOUND = 1e-3

Outputs = dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[*VARIANTS])
    parser.add_argument("--paddle", help="Python of the environment with PaddleSeg")
    parser.add_argument(
        "--train", nargs="*", choices=VARIANTS, default=["T"], help="variants to train"
    )
    args = parser.parse_args()
    failures = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(nmf, "draw_bases", golden_model.draw_bases),
    ):
        for variant in args.variants:
            failures += report(variant, compare_torch(variant, Path(folder)))
            if args.paddle:
                peer = compare_paddle(variant, Path(folder), args.paddle)
                failures += report(variant, peer)
        for variant in args.train:
            failures += report(variant, compare_training(variant), TRAIN_BOUND)
    print(f"{failures} differences are too large" if failures else "all within bounds")
    sys.exit(failures > 0)


def report(
    variant: str, cases: Iterator[tuple[str, float]], bound: float = OUTPUT_BOUND
) -> int:
    """Prints every case; returns how many are not within the bound (NaN is not)."""
    failures = 0
    for case, error in cases:
        fails = not error <= bound
        failures += fails
        print(f"{variant}  {case}  {error:.1e}{'  TOO LARGE' * fails}", flush=True)
    return failures


def compare_torch(variant: str, folder: Path) -> Iterator[tuple[str, float]]:
    """mmsegmentation's model with the authors' decoder and rank."""
    model, shapes = jax_model(variant, "official")
    peer = torch_model(variant)
    state = peer.state_dict()
    official = {
        n.replace("mlp.dwconv.", "mlp.dwconv.dwconv."): x for n, x in state.items()
    }
    imagenet = {
        n.removeprefix("backbone."): x
        for n, x in official.items()
        if n.startswith("backbone.")
    }
    imagenet["head.weight"] = torch.rand(1000, VARIANTS[variant].embed_dims[-1])
    imagenet["head.bias"] = torch.rand(1000)
    config = common.base("classification").model
    config.variant = variant
    classifier = make_classifier(config, 1000)
    weights = round_trip(state, shapes, MMSEG, folder)
    peer.load_state_dict(torch.load(folder / "again.pth")["state_dict"], strict=True)
    round_trip(official, shapes, OFFICIAL, folder)
    round_trip(imagenet, convert.shapes(classifier), OFFICIAL, folder)
    for size in SIZES:
        yield from differences(
            f"mmsegmentation {size}",
            jax_outputs(model, weights.variables, size),
            from_torch.forward(peer, size),
        )


def compare_paddle(
    variant: str, folder: Path, python: str
) -> Iterator[tuple[str, float]]:
    """PaddleSeg's model with its decoder."""
    model, shapes = jax_model(variant, "paddle")

    def run(call: str) -> None:
        code = f"from tools.golden import from_paddle as peer; peer.{call}"
        subprocess.run([python, "-W", "ignore", "-c", code], check=True)

    path, again = folder / f"{variant}.pdparams", folder / f"{variant}_again.pdparams"
    run(f"export({variant!r}, {str(path)!r}, {SIZES}, {LAYER_SCALES[variant]})")
    weights = files.read(str(path), shapes)
    files.write(str(again), weights, PADDLESEG, DESCRIPTION)
    run(f"check_equal({variant!r}, {str(path)!r}, {str(again)!r})")
    with np.load(path.with_suffix(".npz")) as outputs:
        for size in SIZES:
            case = "{}x{}/".format(*size)
            yield from differences(
                f"PaddleSeg      {size}",
                jax_outputs(model, weights.variables, size),
                {n.removeprefix(case): outputs[n] for n in outputs if case in n},
            )


def compare_training(variant: str) -> Iterator[tuple[str, float]]:
    """Loss, every gradient and ten steps with the authors' groups and schedule."""
    model, shapes = jax_model(variant, "official")
    peer = torch_model(variant).train()
    tensors = {n: x.numpy() for n, x in peer.state_dict().items()}
    variables = convert.adopt(tensors, shapes, MMSEG, origin="the peer").variables
    size = SIZES[0]
    image, label = golden_fill.image(2, *size), golden_fill.label(2, *size)
    loss_and_grads = jax.jit(
        jax.value_and_grad(partial(jax_loss, model, image, label), has_aux=True)
    )

    (loss, _), grads = loss_and_grads(variables["params"], variables["batch_stats"])
    expected = torch_peer.loss_fn(
        peer,
        torch.from_numpy(image).permute(0, 3, 1, 2),
        torch.from_numpy(label).long(),
    )
    expected.backward()
    yield "loss", abs(float(loss) / expected.item() - 1)
    ours = convert.export({"params": grads, "batch_stats": {}}, MMSEG)
    theirs = {n: p.grad.numpy() for n, p in peer.named_parameters()}
    errors = {
        n: np.abs(ours[n] - g).max() / np.abs(_yardstick(n, theirs)).max()
        for n, g in theirs.items()
    }
    worst = max(errors, key=lambda name: errors[name])
    yield f"gradients of {len(errors)} tensors, worst of {worst}", errors[worst]

    config = common.cityscapes(variant, "official")
    config.schedule.peak = from_torch.PEAK / 10
    config.schedule.warmup_steps = from_torch.WARMUP_STEPS
    schedule = make_schedule(config.schedule, from_torch.NUM_STEPS)
    tx = make_optimizer(config.optimizer, schedule)
    update = jax.jit(tx.update)
    params, batch_stats = variables["params"], variables["batch_stats"]
    opt_state = tx.init(params)
    losses, _ = from_torch.steps(torch_model(variant), size, from_torch.PEAK / 10)
    for step, expected_loss in enumerate(losses):
        (loss, batch_stats), grads = loss_and_grads(params, batch_stats)
        updates, opt_state = update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        yield f"loss of step {step}", abs(float(loss) / expected_loss - 1)


DESCRIPTION = Description(common.base(), ["road"], [[0, 0, 0]])


def _yardstick(name: str, grads: Outputs) -> np.ndarray:
    """What an error in this gradient is measured by: the gradient itself."""
    if name.endswith(("proj.bias", "proj.0.bias", "proj.3.bias")):
        # Before a BatchNorm: 0, up to rounding of what the kernel's is summed from.
        return grads[name.removesuffix("bias") + "weight"]
    return grads[name]


def round_trip(
    state: dict[str, torch.Tensor], shapes: convert.Shapes, naming: Naming, folder: Path
) -> files.Weights:
    """Reads a state dict from a file and writes `again.pth`, the same bit for bit."""
    path, again = folder / "peer.pth", folder / "again.pth"
    again.unlink(missing_ok=True)
    torch.save({"meta": {}, "state_dict": state}, path)
    weights = files.read(str(path), shapes)
    files.write(str(again), weights, naming, DESCRIPTION)
    written = torch.load(again, weights_only=True)["state_dict"]
    assert written.keys() == state.keys()
    for name, x in state.items():
        assert written[name].dtype == x.dtype and torch.equal(written[name], x), name
    return weights


def jax_model(variant: str, decoder: str) -> tuple[SegNeXt, convert.Shapes]:
    config = common.base().model
    config.variant, config.decoder = variant, decoder
    config.dtype = "float32"
    config.drop_path_rate = config.dropout_rate = 0.0
    model = make_model(config, golden_fill.NUM_CLASSES)
    return model, convert.shapes(model)


def torch_model(variant: str) -> torch.nn.Module:
    return from_torch.filled_model(
        torch_peer.VARIANTS[variant],
        VARIANTS[variant].nmf_rank,
        LAYER_SCALES[variant],
    )


def jax_outputs(model: SegNeXt, variables: Any, size: tuple[int, int]) -> Outputs:
    @jax.jit
    def forward(variables, image):
        def both(model, image):
            return model.backbone(image, train=False), model(image, train=False)

        return model.apply(variables, image, method=both)

    stages, logits = forward(variables, golden_fill.image(1, *size))
    outputs = {f"stage{i}": np.asarray(x) for i, x in enumerate(stages, 1)}
    return outputs | {"logits": np.asarray(logits)}


def jax_loss(model: SegNeXt, image, label, params, batch_stats):
    logits, updated = model.apply(
        {"params": params, "batch_stats": batch_stats},
        image,
        train=True,
        rngs={"nmf": jax.random.key(0)},
        mutable=["batch_stats"],
    )
    logits = resize_bilinear(logits, label.shape[1:])
    total, weight = cross_entropy(logits, label.astype(int), normalizer="valid")
    return total / weight, updated["batch_stats"]


def differences(
    case: str, actual: Outputs, expected: Outputs
) -> Iterator[tuple[str, float]]:
    """Largest difference of each output, in units of the peer's largest magnitude."""
    for name, x in expected.items():
        yield f"{case} {name}", float(np.abs(actual[name] - x).max() / np.abs(x).max())


if __name__ == "__main__":
    main()
