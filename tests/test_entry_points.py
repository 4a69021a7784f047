"""train.py and eval.py as a person runs them, on generated scenes and images."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from html_page import check
from PIL import Image
from tiny_imagenet import make_tiny_imagenet

from data.sources import street_scenes
from data.sources.cityscapes import CITYSCAPES
from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.training.checkpoint import locate, restore_weights

ROOT = Path(__file__).parent.parent
PYTHON = [sys.executable, "tests/tiny_run.py"]  # with a network that compiles faster
STEPS = 6


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """One CPU device; runs share what they compile."""
    cache = tmp_path_factory.mktemp("compiled")
    one_device = "--xla_force_host_platform_device_count=1"
    return os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {one_device}",
        "PJRT_NPROC": "2",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
    }


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "scenes"
    street_scenes.generate(str(root), num_train=4, num_val=3, size=(64, 128), seed=0)
    return root


@pytest.fixture(scope="module")
def train_command(scenes):
    def command(workdir, *overrides):
        return [
            *PYTHON,
            "train.py",
            "--config=configs/quickstart.py",
            f"--workdir={workdir}",
            "--config.model.variant=tiny",
            "--config.model.depthwise=xla",
            "--config.data.source=cityscapes",
            f"--config.data.root={scenes}",
            "--config.data.crop_size=(64, 64)",
            "--config.train.batch_size=2",
            f"--config.train.num_train_steps={STEPS}",
            "--config.train.eval_every_steps=3",
            "--config.train.checkpoint_every_steps=1",
            "--config.train.log_every_steps=1",
            "--config.schedule.warmup_steps=2",
            "--config.eval.batch_size=2",
            *overrides,
        ]

    return command


def run(command, environment):
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, train_command, environment):
    """(workdir, console) of a run that nothing stopped."""
    workdir = tmp_path_factory.mktemp("whole")
    result = run(train_command(workdir), environment)
    assert result.returncode == 0, result.stderr
    return workdir, result.stderr


def test_console_shows_the_run(whole_run):
    workdir, console = whole_run
    assert "backbone/stem/conv1/kernel" in console  # parameter overview
    assert re.search(r"steps/s, 100\.0% \(6/6\), ETA", console)
    assert re.search(r"Step 3: mIoU \d+\.\d+ %, pixel accuracy .* on 3 images", console)
    assert re.search(r"traffic light +", console)  # table of classes
    assert str(workdir) in console
    assert "orbax" not in console


def test_killed_run_resumes_to_the_same_parameters(
    whole_run, tmp_path, train_command, environment
):
    """`kill -9` at a random moment of training, then the same command again."""
    whole, _ = whole_run
    killed = subprocess.Popen(
        train_command(tmp_path), cwd=ROOT, env=environment, stderr=subprocess.DEVNULL
    )
    history = tmp_path / "history.jsonl"
    deadline = time.monotonic() + 600
    while not history.exists() and killed.poll() is None:
        assert time.monotonic() < deadline, "the run made no step in ten minutes"
        time.sleep(0.05)
    time.sleep(random.uniform(0, 1.5))
    killed.send_signal(signal.SIGKILL)
    killed.wait()

    resumed = run(train_command(tmp_path), environment)
    assert resumed.returncode == 0, resumed.stderr
    mesh = make_mesh(jax.devices()[:1])
    expected, actual = (
        restore_weights(locate(str(path / "checkpoints" / str(STEPS))), mesh).best
        for path in (whole, tmp_path)
    )
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_eval_repeats_the_score_of_training(whole_run, environment):
    workdir, console = whole_run
    command = [*PYTHON, "eval.py"]
    for batch_size in (2, 3):
        result = run(
            [
                *command,
                f"--checkpoint={workdir}/checkpoints/{STEPS}",
                f"--eval.batch_size={batch_size}",
            ],
            environment,
        )
        assert result.returncode == 0, result.stderr
        score = re.search(r"mIoU (\S+) %, pixel accuracy (\S+) %", result.stdout)
        assert score, result.stdout
        assert f"Step {STEPS}: {score[0]}" in console


def test_eval_reads_checkpoints_from_before_a_key(whole_run, tmp_path, environment):
    older = tmp_path / "older"
    shutil.copytree(whole_run[0], older)
    for path in older.glob("checkpoints/*/description/metadata"):
        description = json.loads(path.read_text())
        del description["config"]["loss"], description["config"]["data"]["resize_to"]
        description["config"]["eval"] = {"batch_size": 2}
        path.write_text(json.dumps(description))
    result = run([*PYTHON, "eval.py", f"--checkpoint={older}"], environment)
    assert result.returncode == 0, result.stderr
    assert "pixel accuracy" in result.stdout


def test_eval_by_a_protocol_with_all_its_reports(
    whole_run, scenes, tmp_path, environment
):
    output, server = tmp_path / "report", tmp_path / "server"
    command = [
        *PYTHON,
        "eval.py",
        f"--checkpoint={whole_run[0]}/checkpoints/{STEPS}",
        "--protocol=paddle",
        "--eval.mode=slide",
        "--eval.crop_size=64,64",
        "--eval.stride=(48, 48)",
        "--nmf_draws=2",
        f"--output={output}",
        f"--test_server={server}",
    ]
    result = run(command, environment)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((output / "metrics.json").read_text())
    assert (metrics["protocol"], metrics["step"]) == ("paddle", STEPS)
    assert set(metrics["overrides"]) == {"mode", "crop_size", "stride"}
    assert metrics["eval"]["average"] == "logits"  # of the protocol
    assert metrics["eval"]["stride"] == [48, 48]  # of the flag
    draws = metrics["nmf_draws"]
    assert f"mIoU {100 * draws['mean']:.2f} ± {100 * draws['std']:.2f} %" in (
        result.stdout
    )
    assert len(set(draws["miou"])) == 2 and metrics["miou"] not in draws["miou"]
    assert f"mIoU {100 * metrics['miou']:.2f} %, pixel accuracy" in result.stdout

    # The files to submit are the predictions that were scored.
    counts = np.zeros((19, 19), int)
    files = sorted(server.iterdir())
    for file in files:
        frame = file.name.removesuffix("_pred.png")
        (label,) = scenes.glob(f"gtFine/val/*/{frame}_gtFine_labelIds.png")
        truth, pred = (
            CITYSCAPES.to_train_ids(np.asarray(Image.open(path)), str(path))
            for path in (label, file)
        )
        np.add.at(counts, (truth[truth < 255], pred[truth < 255]), 1)
    assert counts.tolist() == metrics["confusion"]

    images = json.loads((output / "per_image.json").read_text())["images"]
    assert len(images) == len(files) == metrics["num_images"] == 3
    assert {tuple(image["size"]) for image in images} == {(64, 128)}
    assert images[0]["name"].startswith("leftImg8bit/val/")
    assert (output / "confusion.png").stat().st_size > 0
    worst = min(images, key=lambda image: image["miou"])
    assert f"1. {worst['name']}" in check((output / "report.html").read_text()).text


def test_run_has_a_page(whole_run):
    page = check((whole_run[0] / "report.html").read_text())
    assert "SegNeXt-tiny on cityscapes" in page.text
    assert "first step" in page.text and "steps/s of 2 images" in page.text


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--eval.stirde=48,48", "no config key 'stirde': Did you mean \"stride\""),
        ("--eval.scales=1.0,big", "config.eval.scales is ('1.0,big',)"),
        ("--multi_scale", "--protocol"),
    ],
)
def test_eval_names_a_wrong_flag(whole_run, environment, flag, message):
    command = [*PYTHON, "eval.py", f"--checkpoint={whole_run[0]}", flag]
    result = run(command, environment)
    assert result.returncode != 0
    assert message in result.stderr + result.stdout


def test_eval_refuses_data_of_other_classes(whole_run, tmp_path, environment):
    workdir, _ = whole_run
    missing = tmp_path / "nowhere"
    command = [*PYTHON, "eval.py", f"--checkpoint={workdir}"]
    result = run([*command, f"--data.root={missing}"], environment)
    assert result.returncode != 0
    assert str(missing) in result.stderr.splitlines()[-1]


def test_misspelt_key_names_the_nearest(train_command, tmp_path, environment):
    result = run(train_command(tmp_path, "--config.modle.variant=S"), environment)
    assert result.returncode != 0
    assert "model" in result.stderr.splitlines()[-1]


def test_missing_data_stop_before_anything_is_compiled(
    train_command, tmp_path, environment
):
    missing = tmp_path / "nowhere"
    command = train_command(tmp_path / "run", f"--config.data.root={missing}")
    result = run(command, environment)
    assert result.returncode != 0
    assert str(missing) in result.stderr.splitlines()[-1]
    assert "Compiling" not in result.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_backbone_is_trained_and_scored_on_images(tmp_path, environment):
    """The ImageNet recipe on an imagenet2012 of three classes."""
    root, workdir = tmp_path / "tfds", tmp_path / "run"
    make_tiny_imagenet(root, num_train=8, num_val=5, num_classes=3)
    command = [
        "train.py",
        "--config=configs/imagenet_mscan_t.py",
        f"--workdir={workdir}",
        f"--config.data.root={root}",
        "--config.data.crop_size=(32, 32)",
        "--config.model.variant=tiny",
        "--config.model.dtype=float32",
        "--config.model.depthwise=xla",
        "--config.train.batch_size=4",
        "--config.train.num_train_steps=2",
        "--config.train.log_every_steps=1",
        "--config.schedule.warmup_steps=1",
        "--config.eval.batch_size=2",
    ]
    trained = run([*PYTHON, *command], environment)
    assert trained.returncode == 0, trained.stderr
    assert "backbone/stem/conv1/kernel" in trained.stderr  # parameter overview
    command = [*PYTHON, "eval.py", f"--checkpoint={workdir}"]
    scored = run([*command, f"--output={tmp_path}/scores"], environment)
    assert scored.returncode == 0, scored.stderr
    metrics = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    assert (metrics["top5"], metrics["num_images"], metrics["step"]) == (1.0, 5, 2)
    assert "top-1" in check((workdir / "report.html").read_text()).text
    refused = run([*command, "--eval.flip"], environment)
    assert "--eval.flip is of segmentation" in refused.stdout + refused.stderr
    score = re.search(r"top-1 \S+ %, top-5 100\.00 % on 5 images", scored.stdout)
    assert score, scored.stdout
    assert f"Step 2: {score[0]}" in trained.stderr
