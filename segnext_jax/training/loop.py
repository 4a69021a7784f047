"""The loop around the train step: resume, train, evaluate, save, report."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from clu import metric_writers, periodic_actions
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segnext_jax.parallel.mesh import check_batch_size, check_rows, prefetch
from segnext_jax.parallel.processes import wait_for_others
from segnext_jax.training.checkpoint import Checkpointer, check_config, write_config
from segnext_jax.training.initialize import initialize
from segnext_jax.training.interruption import Interrupted, Interruption
from segnext_jax.training.meter import Meter
from segnext_jax.training.program import Program, make_program
from segnext_jax.training.report import Report
from segnext_jax.training.state import TrainState
from segnext_jax.training.task import make_task
from segnext_jax.weights.description import Description

Batches = Iterator[dict[str, np.ndarray]]

_OUTPUT_STRIDE = 32  # of the last stage
_INPUT_BOUND = 0.1  # share of the time waited, from which it is worth telling


class Data(NamedTuple):
    """What a run learns from, as this process sees it."""

    train_batches: Callable[[int], Batches]  # from a step on: image, label, …
    eval_batches: Callable[[], Batches]  # as the task's evaluator wants them
    classes: Sequence[str]
    palette: Sequence[Sequence[int]] = ()  # of the classes, to segment


def train(
    config: ConfigDict,
    data: Data,
    *,
    workdir: str,
    writer: metric_writers.MetricWriter,
    mesh: Mesh,
) -> dict[str, Any]:
    """Trains to `config.train.num_train_steps`, from the newest checkpoint in workdir.

    Returns:
      What `metrics.json` holds.

    Raises:
      ValueError: if the config does not fit itself, the devices, the run in workdir or
        the weights to start from.
      FloatingPointError: after `config.train.max_skipped_in_a_row` updates that were
        not finite.
      Interrupted: after SIGTERM, Ctrl-C or a notice of maintenance to any process. The
        last step has a checkpoint.
    """
    num_steps = config.train.num_train_steps
    check_run(config, mesh)
    check_config(workdir, config)

    task = make_task(config, data.classes, data.palette)
    program = make_program(config, task, mesh)
    evaluator = task.make_evaluator(mesh)
    checkpointer = Checkpointer(
        workdir,
        Description(config, list(data.classes), [list(c) for c in data.palette]),
        score=task.score,
        keep=config.train.keep_checkpoints,
    )
    interruption = Interruption(mesh)
    with interruption.listening(), contextlib.closing(checkpointer):
        state = _restore_or_init(program, checkpointer, config, mesh)
        write_config(workdir, config)
        start = int(state.step)
        report = Report(workdir, writer, task, start)
        report.start(config, state.params)
        meter = Meter(config.train.batch_size)
        hooks = _hooks(config, start, workdir, writer)

        def is_evaluated(step: int) -> bool:
            return step % config.train.eval_every_steps == 0 or step == num_steps

        def evaluate() -> float:
            batches = interruption.checked(data.eval_batches())
            evaluation = evaluator(state.eval_variables, batches)
            return report.evaluation(int(state.step), evaluation)

        if start < num_steps:
            batches = prefetch(data.train_batches(start), mesh)
            logging.info("Compiling the train step, which takes a while.")
            lowered = program.train_step.lower(
                program.abstract_state, program.abstract_batch
            )
            train_step = lowered.compile()
            wait_for_others("train step")
        else:
            logging.info("The run in %s is complete.", workdir)
        is_unscored = start > 0 and checkpointer.score(start) is None
        if start == num_steps or (is_unscored and is_evaluated(start)):
            first_score = evaluate()
            if is_unscored:
                checkpointer.write_score(start, first_score)

        outputs = None
        for step in range(start + 1, num_steps + 1):
            previous_outputs = outputs
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                state, outputs = train_step(state, next(batches))
            meter.add(outputs)
            # Not this step's: waiting for it would idle the device.
            _check_finite(previous_outputs, config.train.max_skipped_in_a_row, workdir)
            for hook in hooks:
                hook(step)
            if step % config.train.log_every_steps == 0 or step == num_steps:
                scalars = meter.read()
                report.scalars(step, {f"train/{k}": v for k, v in scalars.items()})
                _tell_if_input_bound(scalars)

            is_saved = step % config.train.checkpoint_every_steps == 0
            try:
                interruption.check()
                if is_evaluated(step) or is_saved:
                    _check_finite(outputs, config.train.max_skipped_in_a_row, workdir)
                    with meter.paused():
                        score = evaluate() if is_evaluated(step) else None
                        checkpointer.save(state, score)
            except Interrupted:
                checkpointer.save(state, score=None)  # Evaluated when it is resumed.
                logging.info("Stopped after step %d, with a checkpoint.", step)
                raise
        return report.finish()


def check_run(config: ConfigDict, mesh: Mesh) -> None:
    """Raises ValueError if crops or batches cannot be what the config says."""
    if any(length % _OUTPUT_STRIDE for length in config.data.crop_size):
        raise ValueError(
            f"config.data.crop_size is {tuple(config.data.crop_size)}: height and "
            f"width must be multiples of {_OUTPUT_STRIDE}, the stride of the last stage"
        )
    rows = config.data.crop_size[0]
    check_rows("config.data.crop_size[0]", rows, _OUTPUT_STRIDE, mesh)
    accumulate = config.train.accumulate_steps
    if accumulate < 1 or config.train.batch_size % accumulate:
        raise ValueError(
            f"config.train.batch_size is {config.train.batch_size}, which "
            f"config.train.accumulate_steps = {accumulate} does not divide"
        )
    check_batch_size(
        "config.train.batch_size / config.train.accumulate_steps",
        config.train.batch_size // accumulate,
        mesh,
    )


def _restore_or_init(
    program: Program, checkpointer: Checkpointer, config: ConfigDict, mesh: Mesh
) -> TrainState:
    state = checkpointer.restore_latest(program.abstract_state)
    if state is not None:
        logging.info("Resuming after step %d.", int(state.step))
        return state
    state = program.init(jax.random.key(config.seed))
    return initialize(state, config.init_from, mesh) if config.init_from.path else state


def _hooks(config, start, workdir, writer) -> list[periodic_actions.PeriodicAction]:
    if jax.process_index() > 0:  # the first reports for all
        return []
    hooks: list[periodic_actions.PeriodicAction] = [
        periodic_actions.ReportProgress(
            num_train_steps=config.train.num_train_steps,
            writer=writer,
            every_steps=config.train.log_every_steps,
            every_secs=None,
        )
    ]
    if config.train.profile:
        # A few steps later all caches are warm.
        profile = periodic_actions.Profile(
            logdir=workdir, first_profile=start + 5, every_secs=None
        )
        hooks.append(profile)
    return hooks


def _tell_if_input_bound(scalars: dict[str, float]) -> None:
    # There is no rate where only the first step was taken.
    if "device_waited" in scalars and scalars["device_waited"] > _INPUT_BOUND:
        logging.info(
            "The device waited for input %.0f %% of the time. docs/datasets.md says how"
            " to read faster.",
            100 * scalars["device_waited"],
        )


def _check_finite(outputs, limit, workdir) -> None:
    if outputs is None:
        return
    in_a_row = int(outputs["skipped_in_a_row"])
    if in_a_row >= limit:
        raise FloatingPointError(
            f"the loss or its gradient was not finite in {in_a_row} updates in a row "
            f"(config.train.max_skipped_in_a_row). None of them was applied, and the "
            f"last checkpoint in {workdir} is good. Lower config.schedule.peak or set "
            "config.optimizer.clip_norm, and look at the images of the last steps"
        )
