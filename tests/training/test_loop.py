import itertools
import json
from collections import defaultdict

import jax
import numpy as np
import pytest
from clu import metric_writers

from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.training import loop
from segnext_jax.training.checkpoint import describe, locate, restore_weights

CLASSES = ("road", "car", "sky", "pole", "tree")
PALETTE = tuple((40 * i, 10, 200 - 40 * i) for i in range(5))


class Recorder(metric_writers.MetricWriter):
    """Keeps what is written by step: scalars, images and texts."""

    def __init__(self):
        self.scalars, self.images, self.texts = (defaultdict(dict) for _ in range(3))

    def write_scalars(self, step, scalars):
        self.scalars[step] |= scalars

    def write_images(self, step, images):
        self.images[step] |= images

    def write_texts(self, step, texts):
        self.texts[step] |= texts

    def _refuse(self, *args):
        raise AssertionError("nothing of this kind is written")

    write_summaries = write_audios = write_videos = _refuse
    write_histograms = write_pointcloud = write_hparams = _refuse

    def flush(self):
        pass

    def close(self):
        pass


@pytest.fixture
def data(config, make_batch):
    """Batches by step number; three images to validate on, of two sizes."""

    def train_batches(start_step):
        for step in itertools.count(start_step):
            yield make_batch(step, config.train.batch_size)

    def eval_batches():
        for first, count, side in ((0, 2, 64), (2, 1, 48)):
            batch = make_batch(100 + first, count, side)
            yield {
                "views": (batch["image"],),
                "label": batch["label"],
                "mask": np.ones(count, bool),
                "index": np.arange(first, first + count, dtype=np.int32),
            }

    return loop.Data(train_batches, eval_batches, CLASSES, PALETTE)


@pytest.fixture
def run(config, data):
    """Trains in a workdir on two devices; returns the result and the writer."""

    def train(workdir, data=data):
        writer = Recorder()
        mesh = make_mesh(jax.devices()[:2])
        result = loop.train(
            config, data, workdir=str(workdir), writer=writer, mesh=mesh
        )
        return result, writer

    return train


def final_variables(workdir, step=6):
    location = locate(str(workdir / "checkpoints" / str(step)))
    return restore_weights(location, make_mesh(jax.devices()[:1])).best


def test_run_writes_what_a_person_looks_at(tmp_path, run):
    result, writer = run(tmp_path)
    assert result == json.loads((tmp_path / "metrics.json").read_text())
    assert (result["step"], result["num_images"]) == (6, 3)
    assert list(result) == ["step", "miou", "accuracy", "iou", "num_images", "best"]
    assert list(result["iou"]) == list(CLASSES)
    assert result["best"]["miou"] >= result["miou"]
    for name in ("curves.png", "predictions.png", "history.jsonl", "config.json"):
        assert (tmp_path / name).stat().st_size > 0, name

    scalars = writer.scalars
    assert {2, 3, 4, 6} <= set(scalars)
    assert {
        "train/loss",
        "train/lr",
        "train/grad_norm",
        "train/images_per_second",
        "train/device_waited",
        "train/skipped",
        "train/unreadable",
    } <= set(scalars[2])
    assert set(scalars[3]) == {
        "val/miou",
        "val/accuracy",
        *(f"val/iou/{name}" for name in CLASSES),
    }
    assert "config" in writer.texts[0]
    # Three images of 64 px side by side.
    assert writer.images[6]["val/example_0"].shape[1] == 64
    assert writer.images[6]["val/example_0"].shape[2] >= 3 * 64
    assert describe(locate(str(tmp_path))).classes == list(CLASSES)


def test_resumed_run_equals_one_never_stopped(tmp_path, run, data, config):
    config.train.log_every_steps = 1  # a mean over steps would begin at the resumption
    run(tmp_path / "whole")

    def stop_at_step_5(start_step):
        yield from itertools.islice(data.train_batches(start_step), 4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", data._replace(train_batches=stop_at_step_5))
    starts = []

    def remember(start_step):
        starts.append(start_step)
        return data.train_batches(start_step)

    run(tmp_path / "stopped", data._replace(train_batches=remember))
    assert starts[0] in (3, 4)
    jax.tree.map(
        np.testing.assert_array_equal,
        final_variables(tmp_path / "stopped"),
        final_variables(tmp_path / "whole"),
    )

    def scores(workdir):
        rows = map(json.loads, (workdir / "history.jsonl").read_text().splitlines())
        timed = {"train/images_per_second", "train/device_waited"}
        return [{k: v for k, v in r.items() if k not in timed} for r in rows]

    assert scores(tmp_path / "stopped") == scores(tmp_path / "whole")


def test_complete_run_is_only_evaluated(tmp_path, run, data):
    before, _ = run(tmp_path)

    def no_batches(start_step):
        raise AssertionError("a complete run reads no training data")
        yield

    after, _ = run(tmp_path, data._replace(train_batches=no_batches))
    assert after == before


def test_run_stops_after_updates_that_are_not_finite(
    tmp_path, run, config, monkeypatch
):
    config.train.max_skipped_in_a_row = 2
    config.train.num_train_steps = 30
    run_loss = jax.numpy.nan

    def nan_loss(task, logits, label):
        return logits.sum() * run_loss, jax.numpy.ones(())

    monkeypatch.setattr("segnext_jax.training.segmentation.Segmentation.loss", nan_loss)
    with pytest.raises(FloatingPointError, match=r"2 updates in a row.*schedule\.peak"):
        run(tmp_path)
    mesh = make_mesh(jax.devices()[:1])
    variables = restore_weights(locate(str(tmp_path)), mesh).best
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(variables))


def test_changed_config_stops_before_training(tmp_path, run, config):
    run(tmp_path)
    config.schedule.peak = 0.1
    with pytest.raises(ValueError, match=r"config\.schedule\.peak: 0\.001 → 0\.1"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.crop_size", (64, 65), r"crop_size is \(64, 65\).*multiples of 32"),
        ("train.batch_size", 3, r"is 3, which 2 devices cannot share"),
        ("eval.mode", "slid", r"config\.eval\.mode is 'slid': use 'whole' or 'slide'"),
        ("train.accumulate_steps", 3, r"accumulate_steps = 3 does not divide"),
        ("train.accumulate_steps", 2, r"is 1, which 2 devices cannot share"),
        ("model.variant", "XL", r"config\.model\.variant is 'XL': use one of T, S"),
        ("schedule.warmup_steps", 6, r"warmup_steps is 6: it must be less than the 6"),
        ("schedule.form", "linear", r"schedule\.form is 'linear'"),
        ("optimizer.decay", "norm", r"optimizer\.decay is 'norm': use one of all, no_"),
        ("task", "detection", r"config\.task is 'detection': use \"segmentation\" or"),
        ("loss.normalizer", "none", r"loss\.normalizer is 'none'"),
        ("augment.distortion", "hue", r"augment\.distortion is 'hue': use one of"),
    ],
)
def test_config_that_cannot_work_is_refused(tmp_path, run, config, key, value, message):
    config.update_from_flattened_dict({key: value})
    with pytest.raises(ValueError, match=message):
        run(tmp_path)
