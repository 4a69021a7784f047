"""Images per second of the training input, against both peers on the same files.

    python -m benchmarks.input_pipeline --torch PEER/bin/python \
      --paddle PADDLE/bin/python

Makes 2048×1024 PNG pairs in Cityscapes's layout, and shards as tools/make_shards.py
does; then every loader takes its turn, some rounds long: this project's from PNG and
from shards, mmsegmentation's and PaddleSeg's with several worker counts. All scale by
0.5-2 and crop 1024². The peers also flip, distort colours and normalise, which here the
accelerator does; lines with "geometry" are without that. Last, how long a stream takes
to its first batch, from step 0 and from a far one.

Frames are generated, or with --photos real ones: PNG files of 2048×1024. Needs about
8 MB a frame below --root. `--torch` and `--paddle` name the Python of environments with
requirements-torch.txt and requirements-paddle.txt of this folder.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure_input import images_per_second
from configs import mscan_t
from data import pipeline, stream
from data.sources import make_source, shards, street_scenes
from data.sources.cityscapes import CITYSCAPES
from tools.make_shards import tiled_records

ROOT = Path(__file__).parents[1]
SIZE = (1024, 2048)
FAR_STEP = 100_000


def main() -> None:
    args = _parse_args()
    if args.measure:
        print(measure(args.measure, args.root, args.batch, args.warmup, args.batches))
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = os.path.abspath(args.root or scratch)
        if not os.path.exists(os.path.join(root, "shards")):
            make_files(root, args.frames, args.photos)
        contenders = _contenders(args, root)
        rates: dict[str, list[float]] = {name: [] for name in contenders}
        for _, (name, command) in itertools.product(
            range(args.rounds), contenders.items()
        ):
            rates[name].append(_run(command))
            print(f"{name}: {rates[name][-1]:.1f} images/s", file=sys.stderr)
        firsts: dict[int, list[float]] = {0: [], FAR_STEP: []}
        for _, step in itertools.product(range(2 * args.rounds + 1), firsts):
            firsts[step].append(first_batch_seconds(root, args.batch, step))
    _print_table({name: statistics.median(r) for name, r in rates.items()}, rates)
    for step, seconds in firsts.items():
        median = statistics.median(seconds[1:])  # the first time warms up
        print(f"\nA stream from step {step}: first batch after {median:.3f} s")


def measure(kind: str, root: str, batch: int, warmup: int, batches: int) -> float:
    """Images per second of this project's pipeline, from "cityscapes" or "shards"."""
    return images_per_second(_stream(kind, root, batch), batch, warmup, batches)


def first_batch_seconds(root: str, batch: int, start_step: int) -> float:
    """From opening the PNG files as step `start_step` would, to its batch."""
    start = time.perf_counter()
    next(_stream("cityscapes", root, batch, start_step))
    return time.perf_counter() - start


def _stream(
    kind: str, root: str, batch: int, start_step: int = 0
) -> Iterator[stream.Batch]:
    config = mscan_t.get_config("official")
    config.data.source = kind
    config.data.root = root if kind == "cityscapes" else os.path.join(root, "shards")
    return pipeline.train_stream(
        make_source(config.data, "train"),
        config.data,
        seed=0,
        batch_size=batch,
        start_step=start_step,
    )


def make_files(root: str, frames: int, photos: list[str]) -> None:
    """Writes frames and labels, raw ids and train ids, and their shards."""
    street_scenes.generate(root, num_train=frames, num_val=1, size=SIZE, seed=0)
    images = sorted(Path(root).glob("leftImg8bit/train/*/*.png"))
    for image, photo in zip(images, itertools.cycle(photos), strict=False):
        if Image.open(photo).size != SIZE[::-1]:
            raise SystemExit(f"{photo}: not a PNG of {SIZE[1]}x{SIZE[0]}")
        image.write_bytes(Path(photo).read_bytes())
    # The peers want labels of train ids, which cityscapesScripts would make.
    for path in Path(root).glob("gtFine/*/*/*_labelIds.png"):
        label = CITYSCAPES.to_train_ids(np.asarray(Image.open(path)), str(path))
        name = path.name.replace("_labelIds", "_labelTrainIds")
        Image.fromarray(label).save(path.with_name(name))
    config = mscan_t.get_config()
    config.data.root = root
    source = make_source(config.data, "train")
    for _ in shards.write_split(
        tiled_records(source),
        source.classes,
        os.path.join(root, "shards"),
        "train",
        num_records=len(source),
        num_shards=1,
    ):
        pass


def _contenders(args: argparse.Namespace, root: str) -> dict[str, list[str]]:
    size = [f"--{key}={vars(args)[key]}" for key in ("batch", "warmup", "batches")]
    ours = [sys.executable, "-m", "benchmarks.input_pipeline", f"--root={root}", *size]
    contenders = {
        "this project, PNG": [*ours, "--measure=cityscapes"],
        "this project, shards": [*ours, "--measure=shards"],
    }
    peers = {
        "mmsegmentation": (args.torch, "benchmarks.torch_input"),
        "PaddleSeg": (args.paddle, "benchmarks.paddle_input"),
    }
    for name, (python, module) in peers.items():
        if not python:
            continue
        command = [python, "-m", module, f"--root={root}", *size]
        for workers in args.workers:
            suffix = f"{workers} workers"
            contenders[f"{name}, {suffix}"] = [*command, f"--workers={workers}"]
        # With the last of the counts: what of it is flip and distortion.
        contenders[f"{name}, {suffix}, geometry"] = [
            *command,
            f"--workers={workers}",
            "--geometry",
        ]
    return contenders


def _run(command: list[str]) -> float:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def _print_table(medians: dict[str, float], rates: dict[str, list[float]]) -> None:
    peers = {
        name: rate
        for name, rate in medians.items()
        if "this project" not in name and "geometry" not in name
    }
    best = max(peers.values(), default=None)
    print("| Pipeline | images/s (rounds) | of the faster peer's |\n|---|---|---|")
    for name, rate in medians.items():
        against = f"{rate / best:.2f}" if best else ""
        of = ", ".join(f"{x:.1f}" for x in rates[name])
        print(f"| {name} | {rate:.1f} ({of}) | {against} |")


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", help="folder for the files; a temporary one if unset")
    parser.add_argument("--photos", nargs="+", default=[], metavar="PNG")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--torch", metavar="PYTHON")
    parser.add_argument("--paddle", metavar="PYTHON")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2, 3])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=4)
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", choices=["cityscapes", "shards"], help="one rate")
    return parser.parse_args()


if __name__ == "__main__":
    main()
