"""Generated street scenes: determinism, layout, labels, and that colour is no clue."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from data.classes import IGNORE_LABEL
from data.sources import street_scenes
from data.sources.cityscapes import CITYSCAPES
from data.sources.scenery.canvas import RawId
from data.sources.scenery.renderer import render
from data.sources.street_scenes import StreetScenes, generate

SMALL = {"num_train": 3, "num_val": 2, "size": (32, 64), "seed": 5}
SIZE = (64, 128)


def _scenes(indices):
    for index in indices:
        image, label = render(street_scenes.SEED, index, SIZE)
        yield image, CITYSCAPES.to_train_ids(label, f"scene {index}")


@pytest.fixture(scope="module")
def train_scenes():
    return list(_scenes(range(48)))


@pytest.fixture(scope="module")
def val_scenes():
    first = street_scenes._FIRST_INDEX["val"]
    return list(_scenes(range(first, first + 24)))


def _files(root):
    paths = [p for p in root.rglob("*") if p.is_file()]
    return {str(p.relative_to(root)): p.read_bytes() for p in paths}


def test_render_is_a_pure_function_of_seed_index_and_size():
    alone = render(1, 7, (48, 96))
    render(1, 6, (48, 96))
    again = render(1, 7, (48, 96))
    for a, b in zip(alone, again, strict=True):
        np.testing.assert_array_equal(a, b)
    for seed, index in ((1, 8), (2, 7), (7, 1)):
        image, label = render(seed, index, (48, 96))
        assert (label != alone[1]).mean() > 0.1
        assert np.abs(image.astype(int) - alone[0]).mean() > 5


@pytest.mark.parametrize("size", [(32, 64), (45, 97), (128, 256)])
def test_render_gives_the_size_and_types_asked_for(size):
    image, label = render(0, 3, size)
    assert image.shape == (*size, 3) and image.dtype == np.uint8
    assert label.shape == size and label.dtype == np.uint8


def test_the_picture_of_a_scene_does_not_depend_on_its_resolution():
    small, large = render(0, 4, (64, 128))[1], render(0, 4, (128, 256))[1]
    assert (small == large[::2, ::2]).mean() > 0.93


def test_labels_hold_only_ids_that_the_scenes_use():
    legal = {int(raw_id) for raw_id in RawId}
    assert legal <= set(CITYSCAPES.raw_to_train)
    for index in range(12):
        assert set(np.unique(render(3, index, SIZE)[1]).tolist()) <= legal


def test_every_class_is_in_a_good_share_of_the_scenes(train_scenes, val_scenes):
    for scenes in (train_scenes, val_scenes):
        smallest = SIZE[0] * SIZE[1] // 1000
        share = np.mean(
            [
                np.bincount(label.ravel(), minlength=256)[:19] >= smallest
                for _, label in scenes
            ],
            axis=0,
        )
        rare = {n: s for n, s in zip(CITYSCAPES.names, share, strict=True) if s < 0.15}
        assert not rare
    ignored = np.mean([label == IGNORE_LABEL for _, label in train_scenes])
    assert 0.005 < ignored < 0.1


def test_images_change_where_labels_change(train_scenes):
    """The contrast across label borders is well above that inside of segments."""
    at_border, inside = [], []
    for image, label in train_scenes[:12]:
        step = np.abs(np.diff(image.astype(float), axis=1)).sum(axis=-1)
        border = np.diff(label.astype(int), axis=1) != 0
        at_border.append(step[border].mean())
        inside.append(step[~border].mean())
    assert np.mean(at_border) > 2.0 * np.mean(inside)


def test_colour_alone_does_not_tell_the_classes(train_scenes, val_scenes):
    """A Bayes classifier of colours in 16³ bins stays below an mIoU of 0.25."""

    def bins(image):
        return (image >> 4).astype(int) @ (256, 16, 1)

    counts = np.zeros((16**3, 19))
    for image, label in train_scenes:
        valid = label != IGNORE_LABEL
        np.add.at(counts, (bins(image)[valid], label[valid]), 1)
    # By frequency (best accuracy), and with classes weighted alike (best recall).
    for weights in (counts, counts / counts.sum(axis=0)):
        best = weights.argmax(axis=1)
        confusion = np.zeros((19, 19))
        for image, label in val_scenes:
            valid = label != IGNORE_LABEL
            np.add.at(confusion, (label[valid], best[bins(image)[valid]]), 1)
        hits = np.diag(confusion)
        iou = hits / (confusion.sum(axis=0) + confusion.sum(axis=1) - hits)
        assert iou.mean() < 0.2


def test_generate_writes_the_cityscapes_layout(tmp_path):
    root = tmp_path / "scenes"
    generate(str(root), **SMALL)
    for split, count in (("train", 3), ("val", 2)):
        source = StreetScenes(str(root), split)
        assert len(source) == count
        assert source.classes is CITYSCAPES
    frame = "street_000001_000019"
    image = root / f"leftImg8bit/val/street/{frame}_leftImg8bit.png"
    label = root / f"gtFine/val/street/{frame}_gtFine_labelIds.png"
    expected = render(5, street_scenes._FIRST_INDEX["val"] + 1, (32, 64))
    for path, array in zip((image, label), expected, strict=True):
        with Image.open(path) as file:
            np.testing.assert_array_equal(np.asarray(file), array)
    record = StreetScenes(str(root), "val")[1]
    with Image.open(io.BytesIO(record.label)) as file:
        np.testing.assert_array_equal(np.asarray(file), expected[1])


def test_generate_twice_gives_the_same_bytes(tmp_path):
    generate(str(tmp_path / "a"), **SMALL)
    generate(str(tmp_path / "b"), **SMALL)
    assert _files(tmp_path / "a") == _files(tmp_path / "b")
    assert len(_files(tmp_path / "a")) == 2 * (3 + 2) + 1


def test_val_scenes_do_not_depend_on_the_number_of_train_scenes(tmp_path):
    generate(str(tmp_path / "a"), **SMALL)
    generate(str(tmp_path / "b"), **(SMALL | {"num_train": 1}))
    a, b = (_files(tmp_path / name / "gtFine" / "val") for name in "ab")
    assert a == b


def test_a_tree_made_with_the_same_arguments_is_kept(tmp_path):
    root = tmp_path / "scenes"
    generate(str(root), **SMALL)
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*.png")}
    generate(str(root), **SMALL)
    assert before == {p: p.stat().st_mtime_ns for p in root.rglob("*.png")}


def test_a_tree_made_with_other_arguments_is_refused(tmp_path):
    root = str(tmp_path / "scenes")
    generate(root, **SMALL)
    with pytest.raises(ValueError, match="seed is 5, asked for 6"):
        generate(root, **(SMALL | {"seed": 6}))


def test_a_tree_of_another_version_is_refused(tmp_path):
    root = tmp_path / "scenes"
    generate(str(root), **SMALL)
    marker = root / street_scenes._MARKER
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"version": 0}))
    with pytest.raises(ValueError, match="version 0"):
        StreetScenes(str(root), "train")


def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="was not made by generate"):
        StreetScenes(str(tmp_path), "train")
    assert _files(tmp_path) == {"thesis.tex": b"precious"}


def test_a_remote_root_is_refused():
    with pytest.raises(ValueError, match="gs://bucket/scenes"):
        generate("gs://bucket/scenes", **SMALL)


@pytest.mark.parametrize("change", [{"num_val": 0}, {"size": (16, 64)}, {"seed": -1}])
def test_impossible_arguments_are_refused(tmp_path, change):
    with pytest.raises(ValueError, match="cannot generate"):
        generate(str(tmp_path / "scenes"), **(SMALL | change))
    assert not list(tmp_path.iterdir())


def test_an_interrupted_run_leaves_no_tree(tmp_path, monkeypatch):
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return render(*arguments)

    monkeypatch.setattr(street_scenes, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate(str(tmp_path / "scenes"), **SMALL)
    assert not list(tmp_path.iterdir())


def test_a_killed_run_leaves_no_tree_and_the_next_one_completes(tmp_path):
    root = tmp_path / "scenes"
    program = (
        "import os\n"
        "from data.sources import street_scenes\n"
        "street_scenes._rename = lambda *_: os._exit(9)\n"  # dies before the rename
        f"street_scenes.generate({str(root)!r}, **{SMALL!r})\n"
    )
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    died = subprocess.run([sys.executable, "-c", program], env=environment)
    assert died.returncode == 9
    assert not root.exists()
    generate(str(root), **SMALL)
    assert len(StreetScenes(str(root), "train")) == 3


def test_the_slower_of_two_processes_uses_the_tree_of_the_faster(tmp_path, monkeypatch):
    root = str(tmp_path / "scenes")
    write_split = street_scenes._write_split

    def overtaken(*arguments):
        monkeypatch.setattr(street_scenes, "_write_split", write_split)
        generate(root, **SMALL)  # the other process finishes meanwhile
        write_split(*arguments)

    monkeypatch.setattr(street_scenes, "_write_split", overtaken)
    generate(root, **SMALL)
    assert os.listdir(tmp_path) == ["scenes"]
    assert len(StreetScenes(root, "val")) == 2


def test_street_scenes_are_generated_when_absent(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(
        street_scenes, "generate", lambda root: made.append(generate(root, **SMALL))
    )
    for split, count in (("train", 3), ("val", 2), ("train", 3)):
        assert len(StreetScenes(str(tmp_path / "scenes"), split)) == count
    assert len(made) == 1
