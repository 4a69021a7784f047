"""tools/check_dataset.py on sound and on damaged datasets: what it says and returns."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import common
from tools.check_dataset import CANNOT_RUN, FINE, PROBLEMS, check_dataset

ROOT = Path(__file__).parents[2]
SIZE = (64, 96)


@pytest.fixture
def root(tmp_path):
    """Four training and two validation records of the classes road, car, sky."""
    root = tmp_path / "data"
    for split, count, seed in (("train", 4, 0), ("val", 2, 100)):
        for i in range(count):
            rng = np.random.default_rng(seed + i)
            # Blocks, road above all, sky in the last training image alone.
            label = np.zeros(SIZE, np.uint8)
            label[:16] = 1
            label[16:20] = 255
            if (split, i) == ("train", 3):
                label[20:24] = 2
            image = rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)
            save(root / f"images/{split}/{i}.png", image)
            save(root / f"labels/{split}/{i}.png", label)
    (root / "classes.txt").write_text("road 128 64 128\ncar 0 0 142\nsky 70 130 180\n")
    return root


@pytest.fixture
def config(root):
    config = common.base()
    config.data.source, config.data.root = "folder", str(root)
    config.data.classes = "classes.txt"
    config.data.crop_size = (32, 48)
    return config


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def check(config, splits=None, output=None, num_samples=4, limit=None):
    return check_dataset(
        config,
        splits,
        output=str(output) if output else None,
        num_samples=num_samples,
        limit=limit,
    )


def test_sound_dataset(config, capsys):
    assert check(config) == FINE
    printed = capsys.readouterr()
    lines = [line.split() for line in printed.out.splitlines()]
    assert ["train", "4", "4", "6.25", "0", "64×96"] in lines
    assert ["val", "2", "2", "6.25", "0", "64×96"] in lines
    # Of 15 labelled rows in 16: road has 44 or 40 of 60, car 16, sky 4 in one image.
    assert ["road", "0", "71.667", "4", "73.333", "2", "0.372"] in lines
    assert ["car", "1", "26.667", "4", "26.667", "2", "1"] in lines
    assert ["sky", "2", "1.667", "1", "0.000", "0", "4"] in lines
    assert "--config.loss.class_weights='(0.372, 1.0, 4.0)'" in printed.out
    assert "val, classes that do not occur: in no image that was checked: sky" in (
        printed.out
    )
    assert "0 problems" in printed.out
    assert printed.err == ""  # no progress bar away from a terminal


def damage_image(root):
    data = (root / "images/train/1.png").read_bytes()
    (root / "images/train/1.png").write_bytes(data[: len(data) // 2])


def wide_label(root):
    save(root / "labels/train/1.png", np.full(SIZE, 300, np.uint16))


def other_size(root):
    save(root / "labels/train/1.png", np.zeros((64, 95), np.uint8))


def illegal_ids(root):
    label = np.zeros(SIZE, np.uint8)
    label[0, :2] = 3, 17
    save(root / "labels/train/1.png", label)


def void_label(root):
    save(root / "labels/train/1.png", np.full(SIZE, 255, np.uint8))


def missing_label(root):
    (root / "labels/train/1.png").unlink()


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (damage_image, "unreadable", "images/train/1.png: not a readable image"),
        (wide_label, "illegal label", "labels/train/1.png: label ids 300 are outside"),
        (other_size, "sizes differ", "labels/train/1.png is (64, 95)"),
        (illegal_ids, "illegal label", "labels/train/1.png: label ids 3, 17 are"),
        (void_label, "void label", "labels/train/1.png: no pixel of any class"),
        (missing_label, "files", "labels/train/1.png"),
    ],
)
def test_problem_is_named(damage, kind, message, config, root, capsys):
    damage(root)
    assert check(config) == PROBLEMS
    printed = capsys.readouterr().out
    assert "1 problem:" in printed
    (line,) = (line for line in printed.splitlines() if line.startswith("  train, "))
    assert line.startswith(f"  train, {kind}: ") and message in line


def test_all_problems_are_found_in_one_go(config, root, tmp_path):
    for damage in (damage_image, illegal_ids):  # of one record
        damage(root)
    save(root / "labels/val/0.png", np.zeros((3, 3), np.uint8))
    assert check(config, output=tmp_path / "out") == PROBLEMS
    report = json.loads((tmp_path / "out/report.json").read_text())
    found = [(row["split"], row["kind"]) for row in report["problems"]]
    assert found == [
        ("train", "unreadable"),
        ("train", "illegal label"),
        ("val", "sizes differ"),
    ]


def test_image_in_both_splits_is_a_warning(config, root, capsys):
    data = (root / "images/train/2.png").read_bytes()
    (root / "images/val/1.png").write_bytes(data)
    assert check(config) == FINE
    assert "val, leakage: 1 images are also in train: " in capsys.readouterr().out


def test_page_and_json_are_written(config, tmp_path, capsys):
    assert check(config, output=tmp_path / "new/out", num_samples=4) == FINE
    report = json.loads((tmp_path / "new/out/report.json").read_text())
    assert report["classes"][1]["splits"]["train"]["pixels"] == 4 * 16 * 96
    page = (tmp_path / "new/out/report.html").read_text()
    assert page.count("<figure>") == 4 and page.count("data:image/jpeg") == 8
    assert "<figcaption>images/train/0.png" in page  # as below the root
    assert f"{tmp_path / 'new/out'}: report.html" in capsys.readouterr().out


def test_splits_and_limit_are_chosen(config, tmp_path):
    assert check(config, ["val"], tmp_path, limit=1) == FINE
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["splits"].keys() == {"val"}
    assert (report["splits"]["val"]["checked"], report["splits"]["val"]["images"]) == (
        1,
        2,
    )


def test_limit_spreads_over_the_split(config, tmp_path):
    check(config, ["train"], tmp_path, limit=2)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["classes"][2]["splits"]["train"]["images"] == 1  # that of the last


def test_what_cannot_be_checked_raises(config, root, tmp_path):
    config.data.root = str(tmp_path / "nothing")
    config.data.classes = "camvid"
    with pytest.raises(FileNotFoundError, match="nothing"):
        check(config)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FileNotFoundError, match="nothing"):
        check(config)
    config.data.source = "cityscape"
    with pytest.raises(ValueError, match="cityscapes"):
        check(config)
    with pytest.raises(ValueError, match=r"task is 'classification'"):
        check(common.base("classification"))


def test_bad_crop_is_found_before_any_file(config):
    config.data.crop_size = (0, 0)
    config.data.train_split = "nowhere"
    with pytest.raises(ValueError, match="crop_size"):
        check(config)


def run(*arguments):
    command = [sys.executable, "-m", "tools.check_dataset", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_exit_codes_and_last_lines(root):
    config = "--config=configs/camvid.py"
    data = [f"--config.data.root={root}", "--config.data.classes=classes.txt"]
    result = run(config, *data, "--split=val", "--config.data.crop_size=(32, 48)")
    assert result.returncode == FINE, result.stderr
    assert result.stdout.splitlines()[-1] == "0 problems"

    void_label(root)
    result = run(config, *data)
    assert result.returncode == PROBLEMS, result.stderr
    assert "train/1.png: no pixel of any class" in result.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/nowhere.py"], "configs/nowhere.py"),
        (["--config=configs/camvid.py", "--config.dta.root=x"], '"data"'),
        (["--config=configs/camvid.py", "--limit=0"], "limit"),
        (["--config=configs/camvid.py", "--config.data.root={empty}"], "images/train"),
    ],
    ids=["no config", "misspelt key", "bad flag", "no data"],
)
def test_what_cannot_run_exits_with_two(arguments, message, tmp_path):
    result = run(*(argument.format(empty=tmp_path) for argument in arguments))
    assert result.returncode == CANNOT_RUN
    assert message in result.stderr and "Traceback" not in result.stderr
