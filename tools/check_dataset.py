"""Checks a dataset as training reads it, and says what is in it.

    python -m tools.check_dataset --config configs/camvid.py \
        [--split train --split val] [--output DIR] [--samples 24] [--limit N]

Finds missing, unreadable and mismatched files, illegal label ids, labels without a
class, images that are in two splits, and classes that do not occur; counts the classes
and suggests weights for them. DIR gets report.html, with samples, and report.json.
Exits with 0 if there is no problem (there may be warnings), with 1 if there are some,
with 2 if it cannot run.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow only reads files here

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from data.dataset_report import make_report
from data.decode import decode_record
from data.sources import Source, make_source, source_classes
from data.statistics import (
    Problem,
    SplitStatistics,
    check_records,
    sizes_at_least_scale,
)
from segnext_jax.visual.console import name_misspelt_key, quiet_libraries
from segnext_jax.visual.dataset_page import dataset_page
from segnext_jax.visual.examples import Example
from segnext_jax.visual.tables import align, count_of

FINE, PROBLEMS, CANNOT_RUN = 0, 1, 2

_NUM_SHOWN = 20  # problems on the console


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}", exitcode=CANNOT_RUN)
    quiet_libraries()
    tf.config.set_visible_devices([], "GPU")
    options = flags.FLAGS
    try:
        return check_dataset(
            options.config,
            options.split,
            output=options.output,
            num_samples=options.samples,
            limit=options.limit,
        )
    except (ValueError, OSError, tf.errors.OpError) as error:
        print(error, file=sys.stderr)
        return CANNOT_RUN


def check_dataset(
    config: ConfigDict,
    splits: Sequence[str] | None,
    *,
    output: str | None,
    num_samples: int,
    limit: int | None,
) -> int:
    """Checks splits (those of the config if None), prints a report, may write a page.

    Returns:
      The exit code.

    Raises ValueError or OSError if nothing can be checked: for a config that names no
    known data, without a dataset at its root, or where `output` cannot be written.
    """
    if config.task != "segmentation":
        raise ValueError(
            f"config.task is {config.task!r}: this tool checks data for segmentation,"
            " images with a label for every pixel"
        )
    classes = source_classes(config.data)
    sizes_at_least_scale((), config.data, classes.names)  # for its errors, at once
    splits = splits or [config.data.train_split, config.data.val_split]
    sources, statistics = {}, {}
    for split in dict.fromkeys(splits):  # each once, in this order
        statistics[split] = SplitStatistics(classes.num_classes)
        try:
            sources[split] = make_source(config.data, split)
        except (ValueError, OSError) as error:
            if _is_empty(config.data.root):
                raise
            statistics[split].problems.append(Problem("files", str(error)))
    for split, source in sources.items():
        indices = _spread(len(source), limit)
        checks = check_records(source, indices)
        # On a terminal alone.
        for check in tqdm(checks, split, len(indices), unit=" images", disable=None):
            statistics[split].add(check)
    num_images = {s: len(sources[s]) if s in sources else 0 for s in statistics}
    report = make_report(config.data, classes, num_images, statistics)
    print(_describe(report))
    if output:
        root = os.path.join(config.data.root, "")
        count = -(-num_samples // max(1, len(sources)))
        samples = {s: _samples(source, count, root) for s, source in sources.items()}
        _write(output, report, samples)
        print(f"\n{output}: report.html and report.json are written.")
    return PROBLEMS if report["problems"] else FINE


def _is_empty(root: str) -> bool:
    return not tf.io.gfile.isdir(root) or not tf.io.gfile.listdir(root)


def _spread(length: int, count: int | None) -> list[int]:
    """At most `count` indices, evenly from the first to the last."""
    if count is None or count >= length:
        return list(range(length))
    return np.linspace(0, length - 1, count).round().astype(int).tolist()


def _describe(report: Mapping[str, Any]) -> str:
    """The report as text."""
    lines = [f"{report['source']}, {report['root']}", "", *_split_lines(report), ""]
    lines += [*_class_lines(report), "", "Suggested class weights:", report["flag"]]
    for kind in ("warning", "problem"):
        rows = report[f"{kind}s"]
        lines += ["", f"{count_of(len(rows), kind)}{':' * bool(rows)}"]
        lines += [
            f"  {row['split']}, {row['kind']}: {row['message']}"
            for row in rows[:_NUM_SHOWN]
        ]
        if len(rows) > _NUM_SHOWN:
            lines.append(f"  … and {len(rows) - _NUM_SHOWN} more (--output has all)")
    return "\n".join(lines)


def _split_lines(report: Mapping[str, Any]) -> list[str]:
    rows = [("split", "images", "checked", "void %", "problems", "sizes")]
    for name, split in report["splits"].items():
        sizes = [f"{s['height']}×{s['width']}" for s in split["sizes"]]
        rows.append(
            (
                name,
                str(split["images"]),
                str(split["checked"]),
                f"{100 * split['void']:.2f}",
                str(split["problems"]),
                ", ".join(sizes[:3]) + ", …" * (len(sizes) > 3) or "–",
            )
        )
    return _underline(align(rows))


def _class_lines(report: Mapping[str, Any]) -> list[str]:
    rows = [["class", "id"]]
    for split in report["splits"]:
        rows[0] += [f"{split} %", "images"]
    rows[0].append("weight")
    for entry in report["classes"]:
        row = [entry["name"], str(entry["train_id"])]
        for part in entry["splits"].values():
            row += [f"{100 * part['share']:.3f}", str(part["images"])]
        rows.append([*row, f"{entry['weight']:g}"])
    return _underline(align(rows))


def _underline(lines: list[str]) -> list[str]:
    return [lines[0], "-" * max(map(len, lines)), *lines[1:]]


def _samples(source: Source, count: int, root: str) -> list[Example]:
    """Evenly spread records without problems, named relative to the root."""
    samples = []
    for index in _spread(len(source), count):
        try:
            record = source[index]
            image, label = decode_record(record, source.classes)
        except (ValueError, OSError):
            continue
        name = record.name.removeprefix(root)
        samples.append(Example(image, label, label.shape, name))
    return samples


def _write(
    folder: str, report: Mapping[str, Any], samples: Mapping[str, list[Example]]
) -> None:
    tf.io.gfile.makedirs(folder)
    contents = {
        "report.html": dataset_page(report, samples),
        "report.json": json.dumps(report, indent=2, ensure_ascii=False) + "\n",
    }
    for name, text in contents.items():
        with tf.io.gfile.GFile(os.path.join(folder, name), "w") as file:
            file.write(text)


def _define_flags() -> None:
    # Not at import: the tests import several tools, and flags are of the process.
    config_flags.DEFINE_config_file(
        "config", None, "Recipe, e.g. configs/camvid.py; any key of it is a flag."
    )
    flags.DEFINE_multi_string(
        "split", None, "Split to check, once for each; those of the config if unset."
    )
    flags.DEFINE_string("output", None, "Folder for report.html and report.json.")
    flags.DEFINE_integer("samples", 24, "Images to show in the page.", lower_bound=0)
    flags.DEFINE_integer(
        "limit", None, "Check that many records a split, evenly spread.", lower_bound=1
    )
    flags.mark_flag_as_required("config")


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        return name_misspelt_key(app.parse_flags_with_usage)(argv)
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        raise SystemExit(CANNOT_RUN) from None


if __name__ == "__main__":
    _define_flags()
    app.run(main, flags_parser=_parse_flags)
