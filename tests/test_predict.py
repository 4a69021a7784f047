"""predict.py as a person runs it, without TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from random_checkpoint import NAMES, PALETTE, write_random_checkpoint

from configs import common
from segnext_jax.models.segnext import make_model
from segnext_jax.ops.normalize import normalize
from segnext_jax.ops.resize import resize_bilinear
from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.training.checkpoint import locate, restore_weights

ROOT = Path(__file__).parents[1]
SIZES = {"a": (64, 96), "deep/b": (64, 96), "c": (72, 80)}
# None in sys.modules makes an import fail, as it does where nothing is installed.
WITHOUT_TENSORFLOW = (
    "import runpy, sys; sys.modules['tensorflow'] = None; sys.argv = sys.argv[1:];"
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    write_random_checkpoint(str(workdir), older=True)
    return workdir


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of photos in blocks, a broken one, one cut off, and a video."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, (height, width) in SIZES.items():
        path = folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        blocks = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)).save(path)
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:-60])
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    video = cv2.VideoWriter(str(folder / "drive.mp4"), codec, 12.5, (96, 64))
    frame = cv2.imread(str(folder / "a.png"))
    for shift in range(5):
        video.write(np.roll(frame, 8 * shift, axis=1))
    video.release()
    return folder


@pytest.fixture(scope="module")
def run(checkpoint, tmp_path_factory):
    cache = tmp_path_factory.mktemp("compiled")
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']}"
        " --xla_force_host_platform_device_count=2",
        "PJRT_NPROC": "4",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
        "PYTHONPATH": str(ROOT),
    }

    def run(*arguments):
        command = [sys.executable, "-c", WITHOUT_TENSORFLOW, "predict.py"]
        return subprocess.run(
            [*command, f"--checkpoint={checkpoint}", *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture(scope="module")
def folder_run(run, photos, tmp_path_factory):
    """(output, result) of a run on the whole folder."""
    output = tmp_path_factory.mktemp("predicted")
    return output, run("--output", output, "--legend", photos, "--eval.batch_size=2")


def load(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_unreadable_inputs_are_named_and_the_others_predicted(folder_run, photos):
    output, result = folder_run
    assert result.returncode == 1, result.stderr
    for name in ("broken.jpg", "cut.png"):  # at once, and at the end
        assert result.stderr.count(f"{photos / name}: not a readable image") == 2
    assert result.stderr.count("2 inputs could not be read:") == 1
    assert "Traceback" not in result.stderr
    assert f"{output}: labels, colors, overlay of 3 images and 5 video" in result.stdout
    written = {str(p.relative_to(output)) for p in output.rglob("*.*")}
    kinds = {"labels": "png", "colors": "png", "overlay": "jpg"}
    assert written == {f"{k}/{n}.{s}" for k, s in kinds.items() for n in SIZES} | {
        "colors/drive.mp4",
        "overlay/drive.mp4",
    }


@pytest.fixture(scope="module")
def predict(checkpoint):
    """Image, uint8 [h w 3] → labels, by nothing but the network."""
    config = common.base().model
    config.dtype, config.depthwise = "float32", "xla"
    model = make_model(config, len(NAMES))
    mesh = make_mesh(jax.devices()[:1])
    variables = restore_weights(locate(str(checkpoint)), mesh).best

    @jax.jit
    def predict(image):
        logits = model.apply(variables, normalize(image[None]), train=False)
        return jnp.argmax(resize_bilinear(logits, image.shape[:2]), axis=-1)[0]

    return lambda image: np.asarray(predict(image))


@pytest.mark.parametrize("name", ["a", "deep/b"])
def test_labels_are_what_the_network_says(folder_run, photos, predict, name):
    labels = load(folder_run[0] / f"labels/{name}.png")
    assert len(np.unique(labels)) > 1
    assert (labels == predict(load(photos / f"{name}.png"))).mean() > 0.999


def test_sizes_that_share_a_program_keep_theirs(folder_run):
    for name, size in SIZES.items():
        assert load(folder_run[0] / f"labels/{name}.png").shape == size


def test_pictures_show_the_labels(folder_run, photos):
    output, _ = folder_run
    labels = load(output / "labels/a.png")
    with Image.open(output / "colors/a.png") as colors:
        np.testing.assert_array_equal(colors.convert("RGB"), np.array(PALETTE)[labels])
    overlay = load(output / "overlay/a.jpg")
    assert overlay.shape[0] > 64  # the legend
    blend = (load(photos / "a.png") + np.array(PALETTE)[labels]) / 2
    assert np.abs(overlay[:64] - blend).mean() < 6


def test_video_keeps_frames_and_speed(folder_run, photos, predict):
    original, colors, overlays = (
        read_video(path)
        for path in (
            photos / "drive.mp4",
            folder_run[0] / "colors/drive.mp4",
            folder_run[0] / "overlay/drive.mp4",
        )
    )
    assert len(original) == len(colors) == len(overlays) == 5
    assert overlays.shape[1] > colors.shape[1] == 64  # the legend
    for frame, picture in zip(original, colors, strict=True):
        distance = np.abs(picture[..., None, :].astype(int) - PALETTE).sum(-1)
        # Where classes meet, MPEG-4 mixes colours.
        assert (distance.argmin(-1) == predict(frame)).mean() > 0.95


def read_video(path):
    video = cv2.VideoCapture(str(path))
    assert video.get(cv2.CAP_PROP_FPS) == 12.5
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1][..., ::-1])
    return np.stack(frames)


def test_windows_palette_and_list(run, photos, folder_run, tmp_path):
    palette = tmp_path / "palette.txt"
    palette.write_text("car 1 2 3\nroad 4 5 6\ntree 7 8 9\nsky 10 11 12\n")
    listed = tmp_path / "list.txt"
    listed.write_text(f"{photos}/a.png\n{photos}/deep/b.png\n")
    result = run(
        *("--input", listed, "--output", tmp_path / "out", "--write=colors"),
        *("--palette", palette, "--eval.mode=slide", "--eval.crop_size=(64, 64)"),
        "--eval.stride=(32, 32)",
    )
    assert result.returncode == 0, result.stderr
    with Image.open(tmp_path / "out/colors/deep/b.png") as image:
        labels, colors = np.asarray(image), np.asarray(image.convert("RGB"))
    own = np.array([[10, 11, 12], [4, 5, 6], [1, 2, 3], [7, 8, 9]])
    np.testing.assert_array_equal(colors, own[labels])
    whole = load(folder_run[0] / "labels/deep/b.png")
    assert 0 < (labels != whole).mean() < 0.5
    assert not (tmp_path / "out/labels").exists()


def test_nothing_readable(run, photos, tmp_path):
    result = run("--output", tmp_path / "out", photos / "broken.jpg")
    assert result.returncode == 1, result.stderr
    assert "labels, colors, overlay of 0 images written" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{photos}/*.gif"], "no image or video matches {photos}/*.gif"),
        (["{photos}/a.png", "--eval.mod=slide"], "mode"),
        (["{photos}/a.png", "--eval.mode=tiles"], "config.eval.mode is 'tiles'"),
        (
            ["{photos}/drive.mp4", "--write=labels"],
            "add colors or overlay for {photos}",
        ),
        (
            ["{photos}/a.png", "--palette={photos}/../three.txt"],
            "three.txt has 3 colours, but the checkpoint has 4 classes",
        ),
    ],
)
def test_what_cannot_run_says_so_at_once(run, photos, tmp_path, arguments, message):
    (photos.parent / "three.txt").write_text("a 1 2 3\nb 4 5 6\nc 7 8 9\n")
    arguments = [each.format(photos=photos) for each in arguments]
    result = run("--output", tmp_path / "out", *arguments)
    assert result.returncode == 2
    assert message.format(photos=photos) in result.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()
