"""Real processes on loopback against one process: the same run, whoever computes it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cluster import Cluster

from data.sources import street_scenes

STEPS = 4
BATCH = 8
NUM_VAL = 7  # a multiple of nothing here
ONE, TWO, FOUR = (1, 8), (2, 1), (4, 2)  # processes, devices of each


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "scenes"
    street_scenes.generate(
        str(root), num_train=9, num_val=NUM_VAL, size=(128, 64), seed=0
    )
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(processes, devices of each), argv → what the processes printed, each a success.

    What one run compiles the next ones load.
    """
    cache = tmp_path_factory.mktemp("compiled")

    def run(shape, *argv, records=None):
        environment = {} if records is None else {"RECORDS": str(records)}
        cluster = Cluster(*shape, cache=cache, environment=environment)
        finished = cluster.run(["tests/tiny_run.py", *argv], seconds=600)
        for process in finished:
            assert process.returncode == 0, process.stderr
        return finished

    return run


@pytest.fixture(scope="module")
def train(run, scenes):
    def train(shape, workdir, *overrides, records=None):
        return run(
            shape,
            "train.py",
            "--config=configs/quickstart.py",
            f"--workdir={workdir}",
            "--config.model.variant=tiny",
            "--config.model.depthwise=xla",  # compiles faster
            "--config.data.source=cityscapes",
            f"--config.data.root={scenes}",
            "--config.data.crop_size=(128, 64)",
            f"--config.train.batch_size={BATCH}",
            f"--config.train.num_train_steps={STEPS}",
            f"--config.train.checkpoint_every_steps={STEPS // 2}",
            "--config.train.log_every_steps=1",
            "--config.schedule.warmup_steps=2",
            "--config.eval.batch_size=5",
            *overrides,
            records=records,
        )

    return train


@pytest.fixture(scope="module")
def one(tmp_path_factory, train):
    """The run of one process: its workdir."""
    workdir = tmp_path_factory.mktemp("one")
    train(ONE, workdir)
    return workdir


@pytest.fixture(scope="module")
def four(tmp_path_factory, train):
    """The same of four: (workdir, folder of the records they read, their outputs)."""
    workdir, records = (tmp_path_factory.mktemp(name) for name in ("four", "records"))
    return workdir, records, train(FOUR, workdir, records=records)


def losses(workdir: Path) -> list[float]:
    rows = map(json.loads, (workdir / "history.jsonl").read_text().splitlines())
    by_step = {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}
    assert sorted(by_step) == list(range(1, STEPS + 1))
    return [by_step[step] for step in sorted(by_step)]


def half(workdir: Path, copy: Path) -> Path:
    """The run as it was in the middle."""
    shutil.copytree(workdir, copy)
    shutil.rmtree(copy / "checkpoints" / str(STEPS))
    return copy


def test_losses_are_those_of_one_process(one, four):
    np.testing.assert_allclose(losses(four[0]), losses(one), rtol=1e-5)


def test_every_process_reads_its_part_and_no_more(four):
    _, folder, _ = four
    parts = [
        [int(line.split()[0]) for line in file.read_text().splitlines()]
        for file in folder.iterdir()
    ]
    assert len(parts) == 4
    examples = np.concatenate(parts)
    assert len(set(examples)) == len(examples)
    assert set(range(STEPS * BATCH)) <= set(examples)
    # Rows 2p and 2p + 1 of every batch are of process p.
    quarters = [set(np.array(part) % BATCH // 2) for part in parts]
    assert sorted(map(sorted, quarters)) == [[0], [1], [2], [3]]


def test_the_first_process_reports_for_all(four):
    workdir, _, (first, *others) = four
    assert "Compiling the train step" in first.stderr
    for other in others:
        assert "Compiling" not in other.stderr and "Step" not in other.stderr
    assert len(list(workdir.glob("events.out.tfevents.*"))) == 1
    rows = (workdir / "history.jsonl").read_text().splitlines()
    assert len(rows) == STEPS + 1  # and an evaluation


def test_one_process_resumes_what_four_began(one, four, train, tmp_path):
    workdir = half(four[0], tmp_path / "half")
    (process,) = train(ONE, workdir)
    assert f"Resuming after step {STEPS // 2}" in process.stderr
    np.testing.assert_allclose(losses(workdir), losses(one), rtol=1e-5)


def test_two_processes_resume_what_one_began_and_share_images(
    one, four, train, tmp_path
):
    """The rows of every image are split over them."""
    workdir, records = half(one, tmp_path / "half"), tmp_path / "records"
    records.mkdir()
    process, _ = train(TWO, workdir, "--config.mesh.spatial=2", records=records)
    assert f"Resuming after step {STEPS // 2}" in process.stderr
    np.testing.assert_allclose(losses(workdir), losses(one), rtol=1e-5)
    # Both read all the records that a run reads which nothing stops, in its order.
    whole, resumed = _lines(four[1]), _lines(records)
    for k in range(STEPS // 2 * BATCH, STEPS * BATCH):
        (name,) = (name for example, name in whole if example == k)
        assert [name for example, name in resumed if example == k] == [name, name]


def test_evaluation_counts_every_image_once(one, run, tmp_path):
    """Two processes of three devices share seven images, five at a time."""
    output = tmp_path / "scores"
    first, other = run(
        (2, 3),
        "eval.py",
        f"--checkpoint={one}/checkpoints/{STEPS}",
        f"--output={output}",
    )
    scores = json.loads((output / "metrics.json").read_text())
    expected = json.loads((one / "metrics.json").read_text())
    assert scores["num_images"] == NUM_VAL
    assert scores["miou"] == expected["miou"]
    assert scores["accuracy"] == expected["accuracy"]
    images = json.loads((output / "per_image.json").read_text())["images"]
    assert len({image["name"] for image in images}) == NUM_VAL
    # The worst come from all processes, in order.
    page = (output / "report.html").read_text()
    ranked = sorted(images, key=lambda image: image["miou"])
    places = [page.index(f"{i}. {each['name']}") for i, each in enumerate(ranked, 1)]
    assert places == sorted(places)
    assert "mIoU" in first.stdout
    assert "mIoU" not in other.stdout


def _lines(folder: Path) -> list[tuple[int, str]]:
    """(example, record) of all processes."""
    lines = (line for file in folder.iterdir() for line in file.read_text().split("\n"))
    pairs = (line.split() for line in lines if line)
    return [(int(k), name) for k, name in pairs]
