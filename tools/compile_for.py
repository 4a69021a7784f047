"""Compiles the programs of a run for accelerators that are not here.

    python -m tools.compile_for --config configs/mscan_l.py --topology v5e:4x8 \
        --mesh 8x4
    python -m tools.compile_for --config configs/mscan_l.py --topology v5e:4x8 --sweep
    python -m tools.compile_for --config configs/mscan_l.py --target h200 \
        --mesh 1x1 --kernels

Prints what the train step and the evaluation of one image on each chip take: memory,
traffic, FLOPs, what is sent. Needs no accelerator and no data set, but the compiler of
the target: requirements-tpu.txt or -cuda.txt. docs/scaling.md has how to read it.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import app, flags
from jax.stages import Lowered
from ml_collections import ConfigDict, config_flags

from segnext_jax.aot import report, targets
from segnext_jax.aot.compiling import DoesNotFitError, compile_apart
from segnext_jax.aot.programs import PROGRAMS, lower
from segnext_jax.aot.targets import Target, tpu
from segnext_jax.parallel.mesh import check_batch_size, check_rows, make_mesh
from segnext_jax.visual.console import name_misspelt_key

_GPUS_OF_A_MACHINE = 8
_OUTPUT_STRIDE = 32  # of the network's last stage
_MESH = re.compile(r"([1-9]\d*)x([1-9]\d*)")


class Cell(NamedTuple):
    """What is compiled for what."""

    target: Target
    mesh: tuple[int, int]  # data, spatial
    program: str


class Setting(NamedTuple):
    """What is the same in all cells."""

    name: str  # of the config
    config: ConfigDict
    num_classes: int
    eval_size: tuple[int, int]
    quick: bool


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    values = flags.FLAGS
    filename = config_flags.get_config_filename(values["config"])
    try:
        setting = Setting(
            Path(filename).name,
            values.config,
            values.num_classes,
            parse_pair("eval_size", values.eval_size),
            values.quick,
        )
        cells = choose_cells(
            values.config,
            topology=values.topology,
            gpu=values.target,
            meshes=values.mesh,
            sweep=values.sweep,
            programs=values.program,
        )
        output = Path(values.output) if values.output else None
        compile_cells(setting, cells, output, with_kernels=values.kernels)
    except (ValueError, ModuleNotFoundError) as error:
        raise SystemExit(str(error)) from None


def choose_cells(
    config: ConfigDict,
    *,
    topology: str | None,
    gpu: str | None,
    meshes: Sequence[str] | None,
    sweep: bool,
    programs: Sequence[str],
) -> list[Cell]:
    """What the flags ask for.

    Raises:
      ValueError: if a mesh is none of the topology's chips, or a name is not known.
      ModuleNotFoundError: if the compiler of the target is not installed.
    """
    if (topology is None) == (gpu is None):
        raise ValueError("give --topology, e.g. v5e:4x8, or --target")
    if unknown := set(programs) - set(PROGRAMS):
        raise ValueError(f"--program is {unknown.pop()!r}: use {', '.join(PROGRAMS)}")
    if sweep == bool(meshes):
        raise ValueError("give --mesh, e.g. 8x4, or --sweep")
    if sweep:
        chips = _GPUS_OF_A_MACHINE if topology is None else tpu(topology).num_devices
        shapes = _possible_meshes(chips, config)
    else:
        shapes = [parse_pair("mesh", mesh) for mesh in meshes or ()]
    cells = []
    for shape in shapes:
        target = _choose_target(topology, gpu, shape[0] * shape[1])
        targets.check_compiler(target)
        cells += [Cell(target, shape, program) for program in programs]
    return cells


def compile_cells(
    setting: Setting, cells: Sequence[Cell], output: Path | None, *, with_kernels: bool
) -> None:
    """Compiles one after the other, prints what is found, and keeps it in `output`.

    Raises:
      ValueError: if the config fits neither itself nor a mesh.
    """
    kept = json.loads(output.read_text()) if output and output.exists() else []
    records = []
    for cell in cells:
        identity = _identity(setting, cell)
        print(" · ".join(identity[key] for key in report.TITLE), flush=True)
        known = [record for record in kept if identity.items() <= record.items()]
        record = known[0] if known else identity | _compile(setting, cell)
        if not known:
            kept.append(record)
            if output:
                output.write_text(json.dumps(kept, indent=1) + "\n")
        records.append(record)
        print(report.describe(record, with_kernels=with_kernels), flush=True)
    if len(records) > 1:
        print(report.table(records))


def lower_cell(setting: Setting, cell: Cell) -> Lowered:
    """What the process that compiles calls; its environment is the target's."""
    config, (data, spatial) = setting.config, cell.mesh
    mesh = make_mesh(targets.devices(cell.target), data=data, spatial=spatial)
    if cell.program == "train":
        check_batch_size(
            "config.train.batch_size / config.train.accumulate_steps",
            config.train.batch_size // config.train.accumulate_steps,
            mesh,
        )
        rows = config.data.crop_size[0]
        check_rows("config.data.crop_size[0]", rows, _OUTPUT_STRIDE, mesh)
    return lower(
        cell.program,
        config,
        setting.num_classes,
        mesh,
        platform=cell.target.platform,
        eval_size=setting.eval_size,
    )


def parse_pair(flag: str, text: str) -> tuple[int, int]:
    """Two numbers, such as 8x4.

    Raises:
      ValueError: if the text is something else.
    """
    found = _MESH.fullmatch(text)
    if not found:
        raise ValueError(f"--{flag} is {text!r}: give two numbers, e.g. 8x4")
    return int(found.group(1)), int(found.group(2))


def _choose_target(topology: str | None, gpu: str | None, num_devices: int) -> Target:
    if gpu:
        return targets.gpu(gpu, num_devices)
    assert topology is not None
    if ":" not in topology:
        return targets.smallest_slice(topology, num_devices)
    target = targets.tpu(topology)
    if num_devices != target.num_devices:
        raise ValueError(
            f"--mesh is of {num_devices} devices, --topology {topology} has "
            f"{target.num_devices}"
        )
    return target


def _possible_meshes(num_devices: int, config: ConfigDict) -> list[tuple[int, int]]:
    """All (data, spatial) that can share the batch and the crops of a config."""
    batch = config.train.batch_size // config.train.accumulate_steps
    rows = config.data.crop_size[0] // _OUTPUT_STRIDE
    return [
        (num_devices // spatial, spatial)
        for spatial in range(1, num_devices + 1)
        if num_devices % spatial == 0
        and batch % (num_devices // spatial) == 0
        and rows % spatial == 0
    ]


def _compile(setting: Setting, cell: Cell) -> report.Record:
    os.environ.update(targets.environment(cell.target))  # the new process inherits it
    try:
        result = compile_apart(lower_cell, (setting, cell), quick=setting.quick)
    except DoesNotFitError as error:
        return report.too_large(str(error), cell.target)
    return report.make_record(result, cell.target)


def _identity(setting: Setting, cell: Cell) -> dict[str, Any]:
    """By which a record is known again."""
    rest = [setting.config.to_json(), setting.num_classes, setting.eval_size]
    return {
        "config": setting.name,
        "program": cell.program,
        "target": cell.target.name,
        "mesh": "x".join(map(str, cell.mesh)),
        "settings": hashlib.sha256(json.dumps(rest).encode()).hexdigest()[:12],
        "quick": setting.quick,
    }


def _define_flags() -> None:
    config_flags.DEFINE_config_file("config", None, "Recipe: configs/mscan_l.py.")
    flags.DEFINE_string(
        "topology",
        None,
        "TPU slice in chips, e.g. v5e:4x8; v5e or v6e alone: as many as --mesh has.",
    )
    flags.DEFINE_enum("target", None, targets.GPUS, "GPU.")
    flags.DEFINE_list("mesh", None, "data x spatial, e.g. 8x4, or several: 8x1,8x4.")
    flags.DEFINE_bool("sweep", False, "All meshes of the chips.")
    flags.DEFINE_list("program", list(PROGRAMS), "train, eval or both.")
    flags.DEFINE_integer("num_classes", 19, "Of the data set.", lower_bound=1)
    flags.DEFINE_string(
        "eval_size", "1024x2048", "Height x width of the images to evaluate."
    )
    flags.DEFINE_bool(
        "quick", False, "Stop before code is generated: minutes less, its size unknown."
    )
    flags.DEFINE_bool("kernels", False, "Print the kernels with the largest traffic.")
    flags.DEFINE_string(
        "output", None, "JSON file of all that was found; what is in it is kept."
    )
    flags.mark_flag_as_required("config")


if __name__ == "__main__":
    _define_flags()
    app.run(main, flags_parser=name_misspelt_key(app.parse_flags_with_usage))
