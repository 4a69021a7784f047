"""Scores a checkpoint by eval.py and by both peers' own evaluation: do they agree?

    PYTHONPATH=.:tests/models python -m tools.compare_evaluation \
        --checkpoint runs/camvid --crop_size 256,320 --stride 192,240 \
        --torch PEER/bin/python --paddle PADDLE/bin/python

with Pythons that have benchmarks/requirements-torch.txt and -paddle.txt. The peers get
the weights by their names, the files of the images, and the NMF bases that eval.py
uses, as they draw new ones each time; they read, scale, predict and score by
themselves: mmsegmentation's pipelines, SegTTAModel and IoUMetric, PaddleSeg's
`evaluate`. Every protocol is done whole and with windows, at one scale and at several.

Prints a table; exits with 1 if a score differs by more than 0.01 points, or more than
one pixel in 10,000.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow only reads files here

import cv2
import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict
from PIL import Image

from configs import common, protocols
from data.decode import decode_train_ids
from data.sources import Source, make_source, source_classes
from data.test_server import label_ids, prediction_file
from segnext_jax.models.segnext import make_model
from segnext_jax.ops.nmf import draw_bases
from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.training import checkpoint
from segnext_jax.visual.console import quiet_libraries
from segnext_jax.weights.convert import export
from segnext_jax.weights.naming import MMSEG, PADDLESEG
from tools.golden.evaluation import Job, Protocol

ROOT = Path(__file__).parents[1]
POINTS = 0.01  # a score is 0…100
PIXELS = 1e-4

NAMINGS = {"torch": MMSEG, "paddle": PADDLESEG}
# Whose code a protocol is; the authors' is an earlier mmsegmentation.
PEERS = {"official": "torch", "mmseg1x": "torch", "paddle": "paddle"}


class Run(NamedTuple):
    """One evaluation, as flags of eval.py."""

    protocol: str
    is_multi_scale: bool
    windows: tuple[str, str] | None  # crop size and stride, as "h,w"

    @property
    def name(self) -> str:
        scales = "scales+flip" if self.is_multi_scale else "one scale"
        return f"{self.protocol} {'windows' if self.windows else 'whole'} {scales}"

    def flags(self) -> list[str]:
        flags = ["--protocol", self.protocol, *["--multi_scale"] * self.is_multi_scale]
        flags += ["--eval.mode", "slide" if self.windows else "whole"]
        if self.windows:
            crop_size, stride = self.windows
            flags += ["--eval.crop_size", crop_size, "--eval.stride", stride]
        return flags

    def to_protocol(self, config: ConfigDict) -> Protocol:
        """What the flags make of config.eval."""
        protocols.apply(config, self.protocol, multi_scale=self.is_multi_scale)
        config.eval.mode = "slide" if self.windows else "whole"
        if self.windows:
            config.eval.crop_size, config.eval.stride = map(_size, self.windows)
        return Protocol(**{key: config.eval[key] for key in Protocol._fields})


def main() -> None:
    args = _parse_args()
    quiet_libraries()
    logging.set_verbosity(logging.WARNING)  # Orbax tells every step of a restore
    config = read_config(args)
    source = make_source(config.data, config.data.val_split)
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labels = write_labels(source, folder / "labels")
        for run in choose_runs(args):
            failures += compare(args, run, config, source, labels, folder / run.name)
    print(f"{failures} runs differ too much" if failures else "all within bounds")
    sys.exit(failures > 0)


def choose_runs(args: argparse.Namespace) -> list[Run]:
    """Those of the protocols for whose peer a Python is given."""
    runs = [
        Run(protocol, is_multi_scale, windows)
        for protocol in args.protocols
        for windows in (None, (args.crop_size, args.stride))
        for is_multi_scale in (False, True)
        if getattr(args, PEERS[protocol])
    ]
    return [run for run in runs if args.only in run.name]


def compare(
    args: argparse.Namespace,
    run: Run,
    config: ConfigDict,
    source: Source,
    labels: list[str],
    folder: Path,
) -> bool:
    """Does a run on both sides and prints what differs; True if that is too much."""
    (folder / "theirs").mkdir(parents=True)
    peer = PEERS[run.protocol]
    images = [os.path.abspath(source[i].name) for i in range(len(source))]
    job = Job(
        weights=str(folder / "weights.npz"),
        variant=config.model.variant,
        channels=save_weights(args.checkpoint, config, peer, folder / "weights.npz"),
        classes=list(source.classes.names),
        images=images,
        labels=labels,
        protocol=run.to_protocol(config),
        output=str(folder / "theirs"),
    )
    theirs = run_peer(job, peer, getattr(args, peer), folder / "job.json")
    ours = run_eval(args, run, folder / "ours")
    error = max(100 * abs(ours[key] - value) for key, value in theirs.items())
    pixels = compare_maps(folder / "theirs", folder / "ours" / "maps", images, source)
    fails = not (error <= POINTS and pixels <= PIXELS)
    print(
        f"{run.name:28} mIoU {100 * theirs['miou']:.4f} %, here"
        f" {100 * ours['miou']:.4f} %; scores differ by {error:.4f} points or less,"
        f" {pixels:.1e} of the pixels{'  TOO MUCH' * fails}",
        flush=True,
    )
    return fails


def read_config(args: argparse.Namespace) -> ConfigDict:
    """The checkpoint's config, with what flags say; raises for other classes."""
    description = checkpoint.describe(checkpoint.locate(args.checkpoint))
    config = common.complete(description.config)
    config.data.root = args.root or config.data.root
    config.data.val_split = args.split or config.data.val_split
    checkpoint.check_classes(
        description, source_classes(config.data).names, config.data.root
    )
    return config


def write_labels(source: Source, folder: Path) -> list[str]:
    """Writes the labels as PNGs of train ids; returns their paths."""
    folder.mkdir()
    paths = [str(folder / f"{i}.png") for i in range(len(source))]
    for i, path in enumerate(paths):
        cv2.imwrite(path, decode_train_ids(source[i], source.classes))
    return paths


def save_weights(
    checkpoint_path: str, config: ConfigDict, peer: str, path: Path
) -> int:
    """Writes the weights by the peer's names; returns the channels of the decoder."""
    decoder = make_model(config.model, 2).decoder
    location = checkpoint.locate(checkpoint_path)
    variables = checkpoint.restore_weights(location, make_mesh()).best
    tensors = export(variables, NAMINGS[peer])
    bases = draw_bases(jax.random.key(0), decoder.channels, decoder.rank)
    np.savez(path, allow_pickle=False, bases=bases, **tensors)
    return decoder.channels


def run_peer(job: Job, peer: str, python: str, path: Path) -> dict[str, float]:
    """Lets the peer do the job, which is written to `path`; returns its scores."""
    job.save(path)
    code = f"from tools.golden.evaluation_{peer} import score_images"
    _run([python, "-W", "ignore", "-c", f"{code}; score_images({str(path)!r})"])
    return json.loads(Path(job.output, "scores.json").read_text())


def run_eval(args: argparse.Namespace, run: Run, folder: Path) -> dict[str, Any]:
    """Lets eval.py do a run; returns its metrics.json."""
    command = [sys.executable, "eval.py", "--checkpoint", args.checkpoint, *run.flags()]
    command += ["--output", str(folder), "--test_server", str(folder / "maps")]
    for flag, value in (("--data.root", args.root), ("--data.val_split", args.split)):
        command += [flag, value] if value else []
    _run(command)
    return json.loads((folder / "metrics.json").read_text())


def compare_maps(theirs: Path, ours: Path, images: list[str], source: Source) -> float:
    """Share of the pixels in which the peer's label maps differ from eval.py's."""
    ids = label_ids(source.classes)
    different = total = 0
    for i, name in enumerate(images):
        pred = np.asarray(Image.open(theirs / f"{i}.png"))
        label = np.asarray(Image.open(ours / prediction_file(name)))
        different += int((ids[pred] != label).sum())
        total += label.size
    return different / total


def _run(command: list[str]) -> None:
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)}\nfailed:\n{result.stderr}")


def _size(text: str) -> tuple[int, ...]:
    return tuple(int(side) for side in text.split(","))


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data.root", dest="root", help="the checkpoint's if unset")
    parser.add_argument("--data.val_split", dest="split", help="as above, or a list")
    parser.add_argument("--torch", help="Python of the environment with mmsegmentation")
    parser.add_argument("--paddle", help="Python of the environment with PaddleSeg")
    parser.add_argument("--protocols", nargs="+", choices=PEERS, default=[*PEERS])
    parser.add_argument(
        "--only", default="", help='runs with this in their name, "one"'
    )
    parser.add_argument("--crop_size", default="1024,1024", help="h,w of windows")
    parser.add_argument("--stride", default="768,768", help="h,w between windows")
    return parser.parse_args()


if __name__ == "__main__":
    main()
