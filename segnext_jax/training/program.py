"""The compiled parts of a run, with the shardings of what goes in and comes out."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segnext_jax.parallel.mesh import batch_sharding, compiler_options, replicated
from segnext_jax.training.objective import Batch, Objective
from segnext_jax.training.optimizer import make_optimizer, make_schedule
from segnext_jax.training.state import TrainState, init_state
from segnext_jax.training.step import Metrics, make_train_step


class Program(NamedTuple):
    """What a run calls, and its arguments without their values.

    To compile it ahead of time: `train_step.lower(abstract_state, abstract_batch)`.
    """

    init: Any  # jitted key → TrainState
    train_step: Any  # jitted (state, batch) → (state, metrics); the state is donated
    abstract_state: TrainState
    abstract_batch: dict[str, jax.ShapeDtypeStruct]


def make_program(config: ConfigDict, objective: Objective, mesh: Mesh) -> Program:
    """The state and the train step of a run on a mesh.

    Raises:
      ValueError: if a value of the config is none that is known.
    """
    schedule = make_schedule(config.schedule, config.train.num_train_steps)
    tx = make_optimizer(config.optimizer, schedule)
    init = partial(init_state, objective.model, tx, ema=config.train.ema_decay > 0)
    abstract_state = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated(mesh)),
        jax.eval_shape(init, jax.random.key(0)),
    )
    abstract_batch = {
        name: jax.ShapeDtypeStruct(
            (config.train.batch_size, *x.shape),
            x.dtype,
            sharding=batch_sharding(mesh, 1 + len(x.shape)),
        )
        for name, x in objective.example.items()
    }
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
    train_step = jax.jit(
        make_train_step(objective, schedule, config, mesh),
        in_shardings=(
            replicated(mesh),
            {name: x.sharding for name, x in abstract_batch.items()},
        ),
        out_shardings=replicated(mesh),
        donate_argnums=0,
        compiler_options=compiler_options(mesh),
    )
    # It runs once: on two cores 17 s to compile, and 6 s without optimisation.
    options = {}
    if jax.default_backend() == "cpu":
        options["xla_backend_optimization_level"] = 0
    return Program(
        jax.jit(init, out_shardings=replicated(mesh), compiler_options=options),
        train_step,
        abstract_state,
        abstract_batch,
    )
