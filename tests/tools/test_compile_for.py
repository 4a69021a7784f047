"""tools/compile_for.py without a compiler: what is compiled, kept and printed."""

import json

import jax
import pytest

from configs import common
from segnext_jax.aot import targets
from segnext_jax.aot.compiling import DoesNotFitError, Memory, Result
from tools import compile_for
from tools.compile_for import Cell, choose_cells, compile_cells

GIB = 2**30
HLO = """
ENTRY %main (a: f32[1000]) -> f32[1000] {
  %a = f32[1000] parameter(0)
  %all-reduce = f32[1000] all-reduce(%a), to_apply=%add
  ROOT %sine = f32[1000] sine(%all-reduce)
}
"""


@pytest.fixture
def config():
    return common.cityscapes("T", "paddle")


@pytest.fixture
def choose(monkeypatch, config):
    """choose_cells where all compilers are."""
    monkeypatch.setattr(targets, "check_compiler", lambda target: None)
    usual = dict(
        topology=None, gpu=None, meshes=None, sweep=False, programs=["train", "eval"]
    )
    return lambda **asked: choose_cells(config, **{**usual, **asked})


def test_a_mesh_of_a_topology(choose):
    cells = choose(topology="v5e:4x8", meshes=["8x4"])
    assert [(c.target.name, c.mesh, c.program) for c in cells] == [
        ("v5e:4x8", (8, 4), "train"),
        ("v5e:4x8", (8, 4), "eval"),
    ]


def test_each_mesh_gets_the_slice_of_its_size(choose):
    cells = choose(topology="v6e", meshes=["8x1", "8x32"], programs=["train"])
    assert [c.target.name for c in cells] == ["v6e:2x4", "v6e:16x16"]


def test_a_sweep_has_the_meshes_that_share_batch_and_rows(choose):
    cells = choose(topology="v5e:4x8", sweep=True, programs=["train"])
    # A batch of 8, and 1024 / 32 rows at the last stage.
    assert [c.mesh for c in cells] == [(8, 4), (4, 8), (2, 16), (1, 32)]


def test_gpus(choose):
    (cell,) = choose(gpu="h200", meshes=["2x1"], programs=["train"])
    assert (cell.target.platform, cell.target.num_devices) == ("gpu", 2)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (dict(meshes=["8x4"]), "give --topology"),
        (dict(topology="v5e:4x8", gpu="h200", meshes=["8x4"]), "give --topology"),
        (dict(topology="v5e:4x8"), "give --mesh"),
        (dict(topology="v5e:4x8", meshes=["8x1"], sweep=True), "give --mesh"),
        (dict(topology="v5e:4x8", meshes=["8x8"]), "64 devices.*v5e:4x8 has 32"),
        (dict(topology="v5e:4x8", meshes=["8"]), "--mesh is '8'"),
        (dict(topology="v5e:4x8", meshes=["0x4"]), "--mesh is '0x4'"),
        (dict(topology="v7:4x8", meshes=["8x4"]), "v7:4x8"),
        (
            dict(topology="v5e:4x8", meshes=["8x4"], programs=["test"]),
            "--program is 'test'",
        ),
    ],
)
def test_what_cannot_be(choose, asked, message):
    with pytest.raises(ValueError, match=message):
        choose(**asked)


@pytest.fixture
def setting(config):
    return compile_for.Setting("mscan_t.py", config, 19, (1024, 2048), quick=False)


@pytest.fixture
def compiled(monkeypatch):
    """The cells that were compiled, by a compiler that knows what they need."""
    cells = []

    def compile_apart(make, arguments, *, quick):
        _, cell = arguments
        cells.append(cell)
        if cell.mesh == (16, 1):
            raise DoesNotFitError("RESOURCE_EXHAUSTED: used 20G of 16G hbm\nmore")
        memory = Memory(GIB, GIB, GIB, 4 * GIB // cell.mesh[1], 0)
        return Result(HLO, memory, {"trace": 1.0, "compile": 2.0}, not quick)

    monkeypatch.setattr(compile_for, "compile_apart", compile_apart)
    # It would set the variables of all tests.
    monkeypatch.setattr(targets, "environment", lambda target: {})
    return cells


def _cell(data, spatial):
    return Cell(targets.smallest_slice("v5e", data * spatial), (data, spatial), "train")


def test_prints_what_a_program_takes(setting, compiled, capsys):
    compile_cells(setting, [_cell(8, 1)], None, with_kernels=True)
    printed = capsys.readouterr().out
    assert "mscan_t.py · train · v5e:2x4 · 8x1" in printed
    assert "5.00 GiB of 16.00 GiB: fits" in printed
    assert "all-reduce 1 × 0.004 MB" in printed
    assert "sine" in printed


def test_the_table_compares_with_the_first_mesh(setting, compiled, capsys):
    cells = [_cell(8, 1), _cell(8, 4), _cell(16, 1)]
    compile_cells(setting, cells, None, with_kernels=False)
    printed = capsys.readouterr().out
    rows = [line.split("|")[3:8] for line in printed.splitlines() if "| mscan" in line]
    assert [[entry.strip() for entry in row] for row in rows] == [
        ["8x1", "train", "5.00 GiB", "4.00 GiB", "1.00"],
        ["8x4", "train", "2.00 GiB", "1.00 GiB", "0.25"],
    ]
    assert "DOES NOT FIT into 16.00 GiB: RESOURCE_EXHAUSTED" in printed


def test_finished_cells_are_kept(setting, compiled, tmp_path):
    path = tmp_path / "cells.json"
    compile_cells(setting, [_cell(8, 1)], path, with_kernels=False)
    compile_cells(setting, [_cell(8, 1), _cell(8, 2)], path, with_kernels=False)
    assert [cell.mesh for cell in compiled] == [(8, 1), (8, 2)]
    records = json.loads(path.read_text())
    assert [record["mesh"] for record in records] == ["8x1", "8x2"]
    assert records[0]["memory"]["total"] == 5 * GIB
    # Another config is another cell.
    with setting.config.unlocked():
        setting.config.remat = "block"
    compile_cells(setting, [_cell(8, 1)], path, with_kernels=False)
    assert len(compiled) == 3


def test_a_mesh_that_the_config_does_not_fit(setting, monkeypatch):
    monkeypatch.setattr(targets, "devices", lambda target: jax.devices())
    cell = Cell(targets.smallest_slice("v5e", 8), (8, 1), "train")
    with setting.config.unlocked():
        setting.config.train.batch_size = 12
    with pytest.raises(ValueError, match=r"config\.train\.batch_size.*12"):
        compile_for.lower_cell(setting, cell)
