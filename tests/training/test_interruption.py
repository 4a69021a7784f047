import contextlib
import json
import os
import signal
import threading

import jax
import numpy as np
import pytest
from clu import metric_writers

from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.training import checkpoint, interruption, loop

CLASSES = ("road", "car", "sky", "pole", "tree")
PALETTE = tuple((40 * i, 10, 200 - 40 * i) for i in range(5))
NUM_STEPS = 6  # of which 3 and 6 are evaluated


@pytest.fixture
def mesh():
    return make_mesh(jax.devices()[:2])


@pytest.fixture
def run(config, make_batch, mesh):
    """Trains in a workdir; tells `on_train` and `on_eval` which batch is read."""
    config.train.log_every_steps = 1  # a mean over steps would begin at the resumption
    config.train.keep_checkpoints = 1
    assert config.train.num_train_steps == NUM_STEPS

    def train(workdir, *, on_train=lambda step: None, on_eval=lambda batch: None):
        def train_batches(start_step):
            for step in range(start_step, NUM_STEPS):
                on_train(step)
                yield make_batch(step, config.train.batch_size)

        def eval_batches():
            for i in range(3):
                on_eval(i)
                batch = make_batch(100 + i, 2)
                yield {
                    "views": (batch["image"],),
                    "label": batch["label"],
                    "mask": np.ones(2, bool),
                    "index": np.arange(2 * i, 2 * i + 2, dtype=np.int32),
                }

        data = loop.Data(train_batches, eval_batches, CLASSES, PALETTE)
        writer = metric_writers.LoggingWriter()
        return loop.train(config, data, workdir=str(workdir), writer=writer, mesh=mesh)

    return train


def terminate_at(place):
    """For `on_train` and `on_eval`: SIGTERM, twice, when they come to a place."""

    def at(index):
        if index == place:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    return at


def steps(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def rows(workdir):
    lines = (workdir / "history.jsonl").read_text().splitlines()
    timed = {"train/images_per_second", "train/device_waited"}
    return [{k: v for k, v in json.loads(x).items() if k not in timed} for x in lines]


def test_run_that_is_stopped_over_and_over_equals_one_never_stopped(
    tmp_path, run, mesh
):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    expected = run(whole)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    # Batches are read one ahead. Where it stops, and steps that have a checkpoint then:
    for interrupt, kept in [
        ({"on_train": terminate_at(3)}, [3]),  # to be evaluated: when it is resumed
        ({"on_train": terminate_at(5)}, [3, 5]),  # 3 has a score now, the best
        ({"on_eval": terminate_at(1)}, [3, 6]),  # in the evaluation of the last step
    ]:
        with pytest.raises(interruption.Interrupted, match="SIGTERM"):
            run(stopped, **interrupt)
        assert steps(stopped) == kept
    assert run(stopped) == expected
    assert handlers == [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]

    assert rows(stopped) == rows(whole)
    best, best_of_whole = (checkpoint.locate(str(path)) for path in (stopped, whole))
    assert best.step == best_of_whole.step == expected["best"]["step"]
    for step in steps(whole):
        ours, theirs = (
            checkpoint.restore_weights(location._replace(step=step), mesh).best
            for location in (best, best_of_whole)
        )
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_second_interrupt_from_the_keyboard_stops_at_once(mesh):
    asked = interruption.Interruption(mesh)
    asked.check()
    with asked.listening():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(interruption.Interrupted, match="SIGINT"):
            asked.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_notice_of_maintenance_is_a_request(mesh, monkeypatch):
    asked = interruption.Interruption(mesh)

    @contextlib.contextmanager
    def watching(on_notice):
        on_notice("preempted is TRUE")
        yield

    monkeypatch.setattr(interruption.maintenance, "watching", watching)
    with asked.listening(), pytest.raises(interruption.Interrupted, match="preempted"):
        next(asked.checked([1]))


def test_signals_stay_what_they_are_outside_of_the_main_thread(mesh):
    seen = []

    def listen():
        with interruption.Interruption(mesh).listening():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
