"""Compiles a program in a process of its own, and reads what it will need."""

import multiprocessing
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from jax.stages import Lowered

_ALLOCATION = re.compile(r"^allocation \d+: size (\d+), (.*)$", re.MULTILINE)
# Written by XLA before it generates code, the program last.
_PROGRAM = "*after_optimizations_after_buffer_assignment.txt"
_ASSIGNMENT = "*after_optimizations-buffer-assignment.txt"
_POLL = 0.5  # seconds


class Memory(NamedTuple):
    """Bytes on every device."""

    arguments: int
    outputs: int
    aliased: int  # of the outputs, what takes the place of arguments
    temporaries: int
    code: int | None = None  # None: not generated

    @property
    def total(self) -> int:
        new = self.outputs - self.aliased
        return self.arguments + new + self.temporaries + (self.code or 0)


class Result(NamedTuple):
    hlo: str  # of the optimised program
    memory: Memory
    seconds: dict[str, float]  # trace (with lowering) and compile
    is_complete: bool  # with code


class DoesNotFitError(RuntimeError):
    """What the compiler says when a program does not fit into memory."""


def compile_apart(
    make_lowered: Callable[..., Lowered], arguments: tuple[Any, ...], *, quick: bool
) -> Result:
    """Compiles `make_lowered(*arguments)` in a process of its own.

    So the compiler's memory is given back, several can run at once, and one can be
    stopped. The environment must be the target's before: it is inherited.

    Args:
      make_lowered: importable, as its arguments are sent to the process.
      arguments: its arguments.
      quick: stop before code is generated, which is most of the time on a TPU. Memory
        and traffic are decided by then.

    Raises:
      ValueError: as raised by `make_lowered`.
      DoesNotFitError: if the program does not fit.
      RuntimeError: if the process ends without a result; its reason is on stderr.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(
            target=_compile, args=(make_lowered, arguments, folder, sender)
        )
        process.start()
        sender.close()
        try:
            return _wait(receiver, Path(folder), quick)
        except EOFError:
            process.join()
            raise RuntimeError(
                f"the compilation ended with exit code {process.exitcode}; "
                "its reason is printed above"
            ) from None
        finally:
            process.kill()
            process.join()


def read_assignment(text: str) -> Memory:
    """Memory of the device, without a TPU's VMEM, in XLA's text of its assignment."""
    arguments = outputs = aliased = temporaries = 0
    for size, kind in _ALLOCATION.findall(text):
        is_argument, is_output = "parameter " in kind, "maybe-live-out" in kind
        if "color" in kind or "thread-local" in kind:
            continue  # in another memory, or in registers
        arguments += int(size) * is_argument
        outputs += int(size) * is_output
        aliased += int(size) * (is_argument and is_output)
        temporaries += int(size) * (not is_argument and not is_output)
    return Memory(arguments, outputs, aliased, temporaries)


def _wait(receiver: Connection, folder: Path, quick: bool) -> Result:
    """Reads what the process sends, or what its compiler has written by then."""
    seconds: dict[str, float] = {}
    start, size = 0.0, 0
    while True:
        if receiver.poll(_POLL):
            kind, value = receiver.recv()
            if kind == "error":
                raise value
            if kind == "result":
                return value
            seconds, start = {"trace": value}, time.monotonic()
        elif quick and (found := list(folder.glob(_PROGRAM))):
            # Complete when it grows no more.
            previous, size = size, found[0].stat().st_size
            if size and size == previous:
                seconds["compile"] = time.monotonic() - start
                return Result(
                    found[0].read_text(),
                    _read_memory(folder),
                    seconds,
                    is_complete=False,
                )


def _compile(
    make_lowered: Callable[..., Lowered],
    arguments: tuple[Any, ...],
    folder: str,
    sender: Connection,
) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start = time.monotonic()
    try:
        lowered = make_lowered(*arguments)
    except ValueError as error:
        sender.send(("error", error))
        return
    trace = time.monotonic() - start
    sender.send(("traced", trace))
    options: dict[str, str | bool] = {
        "xla_dump_to": folder,
        "xla_dump_hlo_as_text": True,
    }
    try:
        compiled = lowered.compile(compiler_options=options)
    except RuntimeError as error:  # of JAX
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        sender.send(("error", DoesNotFitError(str(error))))
        return
    seconds = {"trace": trace, "compile": time.monotonic() - start - trace}
    # Not of memory_analysis(): it counts a TPU's VMEM as temporaries of its HBM.
    memory = _read_memory(Path(folder))
    statistics, hlo = compiled.memory_analysis(), compiled.as_text()
    assert statistics is not None and hlo is not None
    memory = memory._replace(code=statistics.generated_code_size_in_bytes)
    sender.send(("result", Result(hlo, memory, seconds, True)))


def _end_with_parent() -> None:
    """Lets no compilation go on for minutes that nobody waits for."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


def _read_memory(folder: Path) -> Memory:
    (assignment,) = folder.glob(_ASSIGNMENT)
    return read_assignment(assignment.read_text())
