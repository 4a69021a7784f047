"""The command as a user gives it."""

import subprocess
import sys
from pathlib import Path

import pytest

from data.sources import street_scenes
from data.sources.shards import Shards

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    street_scenes.generate(str(root), num_train=5, num_val=2, size=(64, 128), seed=0)
    return root


def make_shards(*flags):
    return subprocess.run(
        [sys.executable, "-m", "tools.make_shards", *map(str, flags)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_both_splits_are_converted(scenes, tmp_path):
    done = make_shards(
        "--config=configs/mscan_t.py",
        f"--config.data.root={scenes}",
        f"--output={tmp_path}",
        "--records_per_shard=2",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{tmp_path}: train, 5 images",
        f"{tmp_path}: val, 2 images",
    ]
    assert len(Shards(str(tmp_path), "train")) == 5
    assert len(list(tmp_path.glob("*.array_record"))) == 3 + 1


def test_misspelt_key_is_named(tmp_path):
    done = make_shards(
        "--config=configs/mscan_t.py", "--config.data.rot=x", f"--output={tmp_path}"
    )
    assert done.returncode == 1 and "no config key" in done.stderr
