"""Classification through the loop that segmentation runs in."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from clu import metric_writers

from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.training import checkpoint, loop
from segnext_jax.training.task import make_task

CLASSES = ("red", "green", "blue", "white", "black")
STEPS = 30


@pytest.fixture
def config(make_config):
    return make_config("classification")


@pytest.fixture
def augment(config):
    """Values of config.augment, else 0 → the augmentation of a batch, with a key."""

    def make(**changes):
        plain = dict.fromkeys(config.augment, 0.0)
        config.augment.update(plain | changes)
        return jax.jit(make_task(config, CLASSES, ()).augment)

    return make


def grey_levels(image):
    stddev, mean = [58.395, 57.12, 57.375], [123.675, 116.28, 103.53]
    return np.asarray(image) * stddev + mean


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_images_are_flipped_and_normalised(augment, make_images, probability):
    batch = make_images(0, 3)
    image, _ = augment(flip_probability=probability)(batch, jax.random.key(0))
    assert (image.shape, image.dtype) == ((3, 64, 64, 3), jnp.float32)
    expected = batch["image"][:, :, :: -1 if probability else 1]
    np.testing.assert_allclose(grey_levels(image), expected, atol=1e-4)


def test_targets_are_smoothed_then_mixed(augment, make_images):
    """timm: 0.1/5 for the others, 1 - 0.1 + 0.1/5 for the label; then by λ."""
    batch = make_images(0, 2)
    batch["label"] = np.array([1, 3], np.int32)
    _, target = augment()(batch, jax.random.key(0))
    expected = np.full((2, 5), 0.02)
    expected[0, 1] = expected[1, 3] = 0.92
    np.testing.assert_allclose(target, expected, rtol=1e-6)

    _, mixed = augment(mixup_alpha=0.8)(batch, jax.random.key(0))
    ratio = (mixed[0, 1] - 0.02) / 0.9
    assert 0 < ratio < 1
    expected[0, [1, 3]] = expected[1, [3, 1]] = 0.02 + 0.9 * ratio, 0.92 - 0.9 * ratio
    np.testing.assert_allclose(mixed, expected, rtol=1e-5)


def test_erased_pixels_are_not_mixed(augment, make_images):
    """timm mixes as it collates and erases on the device: noise of full strength."""
    batch = make_images(0, 64)
    key = jax.random.key(0)
    kept, _ = augment(mixup_alpha=0.8)(batch, key)
    erased, _ = augment(mixup_alpha=0.8, erase_probability=1.0)(batch, key)
    fill = np.asarray(erased)[np.asarray(kept != erased)]
    assert fill.std() == pytest.approx(1, abs=0.02)


def test_example_follows_from_key_and_position(augment, make_images):
    """But for its partner; another key is another draw."""
    draw = augment(flip_probability=0.5, erase_probability=0.5)
    same = {k: np.repeat(v[:1], 16, axis=0) for k, v in make_images(0, 1).items()}
    half = {k: v[:8] for k, v in same.items()}
    image, _ = draw(same, jax.random.key(0))
    np.testing.assert_array_equal(image[:8], draw(half, jax.random.key(0))[0])
    assert not np.array_equal(image, draw(same, jax.random.key(1))[0])
    assert len(np.unique(np.asarray(image), axis=0)) > 4


def validation_batches(make_images):
    """Eleven images, of which the last is beside padding."""
    for seed in range(100, 106):
        batch = make_images(seed, 2)
        mask = np.array([True, seed < 105])
        yield {"image": batch["image"], "label": batch["label"], "mask": mask}


@pytest.fixture(scope="module")
def run(make_config, make_images):
    """Trains in a workdir on two devices, with the recipe's whole augmentation."""
    config = make_config("classification")
    config.schedule.peak = 4e-3
    config.train.batch_size = 8
    config.train.num_train_steps = STEPS
    config.train.eval_every_steps = STEPS // 2
    config.train.log_every_steps = 1
    config.train.checkpoint_every_steps = 8

    def train(workdir, num_batches=None):
        def train_batches(start_step):
            for step in itertools.islice(itertools.count(start_step), num_batches):
                yield make_images(step, config.train.batch_size)
            raise KeyboardInterrupt

        return loop.train(
            config,
            loop.Data(train_batches, lambda: validation_batches(make_images), CLASSES),
            workdir=str(workdir),
            writer=metric_writers.LoggingWriter(),
            mesh=make_mesh(jax.devices()[:2]),
        )

    return train


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, run):
    """(workdir, result) of a run that nothing stopped."""
    workdir = tmp_path_factory.mktemp("whole")
    return workdir, run(workdir)


def history(workdir):
    """Rows without the speed."""
    rows = map(json.loads, (workdir / "history.jsonl").read_text().splitlines())
    timed = {"train/images_per_second", "train/device_waited"}
    return [{k: v for k, v in row.items() if k not in timed} for row in rows]


def test_tiny_network_learns(whole_run):
    workdir, result = whole_run
    assert result["top1"] >= 0.9
    assert result["top5"] == 1  # of five classes
    val_rows = [row for row in history(workdir) if "val/top1" in row]
    assert [row["step"] for row in val_rows] == [STEPS // 2, STEPS]
    assert val_rows[-1] == {"step": STEPS, "val/top1": result["top1"], "val/top5": 1.0}


def test_run_writes_what_a_person_looks_at(whole_run):
    workdir, result = whole_run
    assert result == json.loads((workdir / "metrics.json").read_text())
    assert list(result) == ["step", "top1", "top5", "num_images", "best"]
    assert (result["step"], result["num_images"]) == (STEPS, 11)
    assert result["best"]["top1"] >= result["top1"]
    files = {path.name for path in workdir.iterdir()}
    assert {"curves.png", "config.json", "checkpoints"} <= files
    assert "predictions.png" not in files


def test_resumed_run_equals_one_never_stopped(tmp_path, run, whole_run):
    workdir, result = whole_run
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, num_batches=10)
    assert run(tmp_path) == result
    assert history(tmp_path) == history(workdir)


def test_checkpoint_scores_as_in_training(whole_run, make_images):
    """As eval.py does it, with other batches and devices."""
    workdir, result = whole_run
    location = checkpoint.locate(str(workdir))
    description = checkpoint.describe(location)
    assert location.step == result["best"]["step"]
    assert description.classes == list(CLASSES)
    assert description.config.task == "classification"

    mesh = make_mesh(jax.devices()[:1])
    task = make_task(description.config, description.classes, description.palette)
    batches = list(validation_batches(make_images))
    one_batch = {k: np.concatenate([batch[k] for batch in batches]) for k in batches[0]}
    variables = checkpoint.restore_weights(location, mesh).best
    evaluation = task.make_evaluator(mesh)(variables, [one_batch])
    assert task.metrics(evaluation)["top1"] == result["best"]["top1"]
    assert task.details(evaluation).endswith("% on 11 images")


def test_evaluation_batch_that_the_devices_cannot_share_is_refused(make_config):
    config = make_config("classification")
    config.eval.batch_size = 5
    task = make_task(config, CLASSES, ())
    with pytest.raises(ValueError, match=r"config\.eval\.batch_size is 5, which 2"):
        task.make_evaluator(make_mesh(jax.devices()[:2]))
