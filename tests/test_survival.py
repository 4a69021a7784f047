"""A run of real processes that loses one, is stopped, and still is the same run."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from cluster import Cluster

from data.sources import street_scenes

STEPS = 30
BATCH = 8


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """workdir → what to start, in every process."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    street_scenes.generate(str(root), num_train=9, num_val=3, size=(64, 64), seed=0)
    return lambda workdir: [
        "tests/tiny_run.py",
        "train.py",
        "--config=configs/quickstart.py",
        f"--workdir={workdir}",
        "--config.model.variant=tiny",
        "--config.model.depthwise=xla",  # compiles faster
        "--config.data.source=cityscapes",
        f"--config.data.root={root}",
        "--config.data.crop_size=(64, 64)",
        f"--config.train.batch_size={BATCH}",
        f"--config.train.num_train_steps={STEPS}",
        "--config.train.checkpoint_every_steps=2",
        "--config.train.log_every_steps=1",
        "--config.schedule.warmup_steps=2",
        # Sums in another order let a ReLU at its kink pass or stop a gradient. At ten
        # times this rate one such moment grows to 2e-4 of the loss in 15 steps.
        "--config.schedule.peak=2e-4",
    ]


@pytest.fixture(scope="module")
def start(tmp_path_factory, command):
    """Starts processes of two devices; what one compiles the next ones load."""
    cache = tmp_path_factory.mktemp("compiled")

    def start(num_processes, workdir, records):
        environment = {"RECORDS": str(records), "SILENCE_S": "6"}
        cluster = Cluster(num_processes, 2, cache=cache, environment=environment)
        return cluster.start(command(workdir))

    return start


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory, start):
    """(losses by step, records by example)."""
    workdir, records = (tmp_path_factory.mktemp(name) for name in ("run", "records"))
    with start(2, workdir, records) as processes:
        for process in processes:
            finished = process.wait(seconds=600)
            assert finished.returncode == 0, finished.stderr
    return losses(workdir), read(records)


def test_broken_and_stopped_run_equals_one_never_stopped(
    tmp_path, start, never_stopped
):
    """One of four is killed; resumed by four; SIGTERM to one; resumed by two."""
    workdir, records = tmp_path / "run", tmp_path / "records"
    records.mkdir()
    with start(4, workdir, records) as processes:
        wait_for_step(workdir, 5, processes)
        processes[2].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        survivors = [processes[i].wait(seconds=115) for i in (0, 1, 3)]
    assert time.monotonic() - killed < 60
    for survivor in survivors:
        assert survivor.returncode == 1
        cause = survivor.stderr.splitlines()[-1]
        assert "process 2 died or does not answer" in cause and "same command" in cause
    broken = last_checkpoint(workdir)
    assert 0 < broken < STEPS

    with start(4, workdir, records) as processes:
        wait_for_step(workdir, broken + 5, processes)
        processes[2].send_signal(signal.SIGTERM)
        finished = [process.wait(seconds=600) for process in processes]
    assert [each.returncode for each in finished] == [os.EX_TEMPFAIL] * 4, finished
    assert f"Resuming after step {broken}" in finished[0].stderr
    assert "Interrupted: SIGTERM" in finished[2].stderr
    assert "another process was asked to stop" in finished[0].stderr
    stopped = last_checkpoint(workdir)
    assert broken + 5 < stopped < STEPS
    assert max(losses(workdir)) == stopped

    with start(2, workdir, records) as processes:
        finished = [process.wait(seconds=600) for process in processes]
    assert [each.returncode for each in finished] == [0, 0], finished
    assert f"Resuming after step {stopped}" in finished[0].stderr

    expected_losses, expected_records = never_stopped
    found = losses(workdir)
    assert found.keys() == expected_losses.keys()
    np.testing.assert_allclose(
        [found[step] for step in sorted(found)],
        [expected_losses[step] for step in sorted(found)],
        rtol=1e-5,
    )
    assert read(records) == expected_records


def wait_for_step(workdir: Path, step: int, processes) -> None:
    deadline = time.monotonic() + 600
    while not (workdir / "history.jsonl").exists() or max(losses(workdir)) < step:
        for process in processes:
            assert process.is_running(), process.stderr()
        assert time.monotonic() < deadline, processes[0].stderr()
        time.sleep(0.02)


def losses(workdir: Path) -> dict[int, float]:
    """By step; a line that is being written does not count."""
    lines = (workdir / "history.jsonl").read_text().split("\n")[:-1]
    rows = [json.loads(line) for line in lines]
    return {0: 0.0} | {r["step"]: r["train/loss"] for r in rows if "train/loss" in r}


def last_checkpoint(workdir: Path) -> int:
    names = (path.name for path in (workdir / "checkpoints").iterdir())
    return max(int(name) for name in names if name.isdigit())


def read(records: Path) -> dict[int, str]:
    """Example of the stream → record, of those that all steps train on."""
    pairs = [
        line.split()
        for file in records.iterdir()
        for line in file.read_text().splitlines()
        if len(line.split()) == 2  # a process may be killed in the middle of one
    ]
    by_example = {int(k): name for k, name in pairs}
    assert all(by_example[int(k)] == name for k, name in pairs)
    return {k: by_example[k] for k in range(STEPS * BATCH)}
