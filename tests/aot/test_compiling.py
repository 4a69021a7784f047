"""A process that compiles: its result, its errors, and its end."""

import fcntl
import multiprocessing
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from segnext_jax.aot import compiling

ASSIGNMENT = """BufferAssignment:
allocation 0: size 512, thread-local:
 value: <5 reduce_sum.12 @0> (size=512,offset=0): f32[]{:T(128)}
allocation 1: size 1000, parameter 42, shape |f32[250]| at ShapeIndex {}:
allocation 2: size 200, maybe-live-out:
allocation 3: size 64, parameter 3, shape |f32[16]| at ShapeIndex {}, maybe-live-out:
allocation 4: size 9000, preallocated-temp:
allocation 5: size 11, constant:
allocation 6: size 70000, color 1, preallocated-temp:
"""


def test_reads_the_assignment_of_a_device_memory():
    memory = compiling.read_assignment(ASSIGNMENT)
    assert memory == compiling.Memory(1064, 264, 64, 9011)
    assert memory.total == 1064 + 200 + 9011
    assert memory._replace(code=7).total == memory.total + 7


def lower_product(rows: int):
    if rows < 0:
        raise ValueError(f"{rows} rows")
    x = jax.ShapeDtypeStruct((rows, 8), jnp.float32)
    return jax.jit(lambda x: jnp.sin(x) @ x.T).lower(x)


def test_compiles_in_another_process():
    result = compiling.compile_apart(lower_product, (64,), quick=False)
    assert result.is_complete
    assert "ENTRY" in result.hlo
    assert result.memory.arguments == 64 * 8 * 4
    assert result.memory.outputs == 64 * 64 * 4
    assert result.memory.aliased == 0
    assert set(result.seconds) == {"trace", "compile"}


def test_an_error_of_the_config_comes_back():
    with pytest.raises(ValueError, match="-1 rows"):
        compiling.compile_apart(lower_product, (-1,), quick=False)


class SlowCode:
    """Lowered for a compiler that writes what it has, and then takes for ever."""

    def compile(self, compiler_options):
        folder = Path(compiler_options["xla_dump_to"])
        name = "module_0.f.after_optimizations"
        (folder / f"{name}-buffer-assignment.txt").write_text(ASSIGNMENT)
        (folder / f"{name}_after_buffer_assignment.txt").write_text("HloModule f")
        time.sleep(600)


class TooLarge:
    def compile(self, compiler_options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory")


class Crash:
    def compile(self, compiler_options):
        raise SystemExit(3)


def test_stops_before_the_code():
    start = time.monotonic()
    make: Any = SlowCode
    result = compiling.compile_apart(make, (), quick=True)
    assert time.monotonic() - start < 300
    assert not result.is_complete
    assert result.hlo == "HloModule f"
    assert result.memory == compiling.read_assignment(ASSIGNMENT)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (TooLarge, compiling.DoesNotFitError, "Ran out of memory"),
        (Crash, RuntimeError, "exit code 3"),
    ],
)
def test_what_went_wrong(make, error, message):
    with pytest.raises(error, match=message):
        compiling.compile_apart(make, (), quick=False)


class Hang:
    """Holds a lock on a file while it compiles for ever."""

    def __init__(self, path):
        self.file = path.open("w")
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def compile(self, compiler_options):
        time.sleep(600)


def is_locked(path):
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_ends_with_the_process_that_waits_for_it(tmp_path):
    path = tmp_path / "lock"
    parent = multiprocessing.get_context("spawn").Process(
        target=compiling.compile_apart, args=(Hang, (path,)), kwargs={"quick": False}
    )
    parent.start()
    deadline = time.monotonic() + 300
    while not is_locked(path):
        assert parent.is_alive() and time.monotonic() < deadline
        time.sleep(0.1)
    parent.kill()
    while is_locked(path):
        assert time.monotonic() < deadline
        time.sleep(0.1)
