"""Rates by a clock that the test sets; a step's loss tells when it finishes."""

import jax.numpy as jnp
import pytest

from segnext_jax.training import meter


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

    monkeypatch.setattr(meter.time, "monotonic", lambda: Clock.now)
    monkeypatch.setattr(meter, "_finish_time", float)
    return Clock


def outputs(finishes_at):
    names = ("grad_norm", "learning_rate", "skipped", "unreadable")
    return {"loss": jnp.float32(finishes_at), **dict.fromkeys(names, jnp.int32(0))}


@pytest.mark.parametrize(
    ("every", "duration", "waited"),
    [
        (1.0, 1.0, 0.0),  # the device is always busy
        (1.0, 1.5, 0.0),  # steps queue up
        (1.0, 0.25, 0.75),  # the input takes four times as long as the step
    ],
)
def test_share_that_the_device_waited(clock, every, duration, waited):
    rates = meter.Meter(batch_size=4)
    for step in range(9):  # the first one is not measured
        clock.now = step * every
        rates.add(outputs(finishes_at=clock.now + duration))
    scalars = rates.read()
    assert scalars["device_waited"] == pytest.approx(waited)
    assert scalars["images_per_second"] == pytest.approx(4 / every)


def test_waiting_between_two_readings_belongs_to_the_second(clock):
    rates = meter.Meter(batch_size=4)
    rates.add(outputs(finishes_at=1))
    clock.now = 1.0
    rates.add(outputs(finishes_at=2))
    clock.now = 2.0
    assert rates.read()["device_waited"] == 0
    clock.now = 5.0
    rates.add(outputs(finishes_at=6))
    clock.now = 6.0
    assert rates.read()["device_waited"] == pytest.approx(3 / 4)


def test_evaluation_is_neither_training_nor_waiting(clock):
    rates = meter.Meter(batch_size=4)
    rates.add(outputs(finishes_at=0))
    clock.now = 1.0
    rates.add(outputs(finishes_at=2))
    clock.now = 2.0
    with rates.paused():
        clock.now = 100.0
    rates.add(outputs(finishes_at=101))
    clock.now = 101.0
    scalars = rates.read()
    assert scalars["images_per_second"] == pytest.approx(2 * 4 / 3)
    assert scalars["device_waited"] == pytest.approx(1 / 3)  # before the second step


def test_finish_time_waits_for_the_array():
    before = meter.time.monotonic()
    assert meter._finish_time(jnp.ones(3)) >= before
