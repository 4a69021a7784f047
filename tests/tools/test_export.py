"""tools/export.py on a tiny checkpoint; its results run as docs/export.md says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_segnext import draw_variables

from configs import common
from data.sources import street_scenes
from data.sources.cityscapes import CITYSCAPES
from segnext_jax.models import segnext
from segnext_jax.training import checkpoint
from segnext_jax.weights.description import Description
from segnext_jax.weights.files import Weights
from tools import export
from tools.export import export_checkpoint, parse_size

SIZE = (64, 128)
# TensorFlow saves a model by what NumPy and the interpreter have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A checkpoint of Cityscapes' classes whose validation images are there."""
    folder = tmp_path_factory.mktemp("run")
    scenes = str(folder / "scenes")
    street_scenes.generate(scenes, num_train=1, num_val=3, size=SIZE, seed=0)
    config = common.base()
    config.model.variant = "tiny"
    config.model.depthwise = "xla"  # compiles several times faster
    config.data.root = scenes
    tiny = segnext.Variant((8, 16, 24, 32), (1, 1, 1, 1), 32, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(segnext.VARIANTS, "tiny", tiny)
        variables = draw_variables(segnext.make_model(config.model, 19))
        weights = Weights(variables, None, {}, "native", [])
        palette = [list(colour) for colour in CITYSCAPES.palette]
        description = Description(config, list(CITYSCAPES.names), palette)
        checkpoint.write_weights(str(folder / "run"), weights, description)
        yield str(folder / "run")


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 16, 3), np.uint8))
    coarse.resize(SIZE[::-1]).save(path)
    return path


@pytest.mark.parametrize(
    ("export_format", "size"),
    [("stablehlo", None), ("savedmodel", None), ("onnx", SIZE)],
)
def test_export_runs_without_the_project(export_format, size, run, photo, tmp_path):
    output = tmp_path / "exported"
    figures = export_checkpoint(run, export_format, output, size=size, num_images=2)
    assert figures.num_images == 2
    assert figures.equal_pixels >= 0.9999
    assert figures.max_difference < 1e-4
    assert figures.miou == pytest.approx(figures.native_miou, abs=1e-4)

    manifest = json.loads((output / "model.json").read_text())
    assert (output / manifest["file"]).exists()
    assert manifest["classes"] == list(CITYSCAPES.names)
    sides = ["height", "width"] if size is None else list(size)
    assert manifest["input"]["shape"] == ["batch", *sides, 3]
    assert manifest["output"]["shape"] == ["batch", *sides, 19]
    assert manifest["provenance"]["step"] == 0
    assert manifest["provenance"]["config"]["model"]["variant"] == "tiny"
    assert manifest["gate"]["miou"] == figures.miou

    (tmp_path / "photo.jpg").write_bytes(photo.read_bytes())
    _run_example(export_format, tmp_path)
    colors = np.asarray(Image.open(tmp_path / "classes.png"))
    assert colors.shape == (*SIZE, 3)
    expected = _native_colors(run, photo)
    assert np.mean((colors == expected).all(axis=-1)) >= 0.9999


def _run_example(export_format, folder):
    """The block of docs/export.md that reads this format, in a bare process."""
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    file = {"savedmodel": "exported/saved_model", "onnx": "exported/model.onnx"}.get(
        export_format, "exported/model.stablehlo"
    )
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (example,) = (block for block in blocks if file in block)
    check = "import sys\nassert not any('segnext' in name for name in sys.modules)\n"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-I", "-c", example + check]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def _native_colors(run, photo):
    location = checkpoint.locate(run)
    description = checkpoint.describe(location)
    model = segnext.make_model(description.config.model, 19)
    variables = checkpoint.restore_weights(location, export.make_mesh()).best
    image = np.asarray(Image.open(photo))
    logits = np.asarray(export.make_native(model, variables)(image[None]))[0]
    return np.array(description.palette)[logits.argmax(-1)]


def test_photos_and_classes(run, photo, tmp_path):
    output = tmp_path / "exported"
    figures = export_checkpoint(
        run, "stablehlo", output, result="classes", size=(32, 64), images=[str(photo)]
    )
    assert figures.num_images == 1
    assert figures.miou is None and figures.max_difference is None
    manifest = json.loads((output / "model.json").read_text())
    assert manifest["output"]["dtype"] == "uint8"
    assert manifest["output"]["shape"] == ["batch", 32, 64]


def test_tampered_export_is_refused_and_leaves_nothing(
    run, photo, tmp_path, monkeypatch
):
    make_program = export.make_program

    def tampered(*args, **options):
        program = make_program(*args, **options)
        return lambda image: program(image).at[..., 3].add(0.25)

    monkeypatch.setattr(export, "make_program", tampered)
    output = tmp_path / "exported"
    with pytest.raises(ValueError, match=r"not written.*differ by up to 0\.25, 0\.001"):
        export_checkpoint(run, "stablehlo", output, size=(32, 64), images=[str(photo)])
    assert list(tmp_path.iterdir()) == []


def test_what_tensorflow_cannot_run_is_refused_in_short(
    run, photo, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        export.stablehlo, "for_older_readers", lambda exported, version: b"no module"
    )
    with pytest.raises(ValueError, match="not written: TensorFlow cannot run") as info:
        export_checkpoint(
            run,
            "savedmodel",
            tmp_path / "exported",
            size=(32, 64),
            images=[str(photo)],
        )
    assert len(str(info.value)) < 800
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(run, tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(FileExistsError, match="choose a new folder"):
        export_checkpoint(run, "stablehlo", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_missing_images_are_asked_for(run, tmp_path):
    output = tmp_path / "exported"
    with pytest.raises(FileNotFoundError, match=r"give --images, or --data\.root"):
        export_checkpoint(run, "stablehlo", output, root=str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
        export_checkpoint(run, "stablehlo", output, images=["gone.jpg"])
    assert list(tmp_path.iterdir()) == []


def test_sizes():
    assert parse_size("dynamic", "stablehlo") is None
    assert parse_size("1024,2048", "onnx") == (1024, 2048)
    for text in ("1024", "1024x2048", "0,64", "64,-64", "a,b", "1,2,3"):
        with pytest.raises(ValueError, match=f"--size={text}: use HEIGHT,WIDTH"):
            parse_size(text, "stablehlo")
    with pytest.raises(ValueError, match="ONNX needs one size"):
        parse_size("dynamic", "onnx")


def test_missing_converter_is_named(run, photo, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    with pytest.raises(ImportError, match=r"requirements-export\.txt"):
        export_checkpoint(
            run, "onnx", tmp_path / "exported", size=SIZE, images=[str(photo)]
        )
    assert list(tmp_path.iterdir()) == []
