"""Several processes as one: JAX's distributed runtime, started from what is found."""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
from etils import epath
from jax._src import distributed  # no public name tells the address that JAX found
from jax.experimental import multihost_utils

# A process that is silent for so long is taken for dead, which ends the others.
HEARTBEAT_TIMEOUT_S = 60
_START_TIMEOUT_S = 300  # for all processes to come
_PROBE_TIMEOUT_S = 5
_COMPILE_TIMEOUT_S = 3600  # for all processes to compile the train step
_DISK_TIMEOUT_S = 60  # a network disk may show a new file that late

_FLAGS = ("--coordinator_address", "--num_processes", "--process_id")
_ADDRESS, _COUNT = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES"
_INDICES = ("JAX_PROCESS_ID", "JOB_COMPLETION_INDEX")  # the latter of Kubernetes


class _Place(NamedTuple):
    """Which of how many processes this is, and where the first listens."""

    coordinator_address: str
    num_processes: int
    process_id: int


def start_processes(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    find: bool = False,
    start_timeout_s: int = _START_TIMEOUT_S,
    heartbeat_timeout_s: int = HEARTBEAT_TIMEOUT_S,
) -> None:
    """Joins the other processes of a run, before JAX is used for anything else.

    Does nothing without the first three arguments and `find`: the process is alone. If
    the others do not come in time it ends, with a message.

    Args:
      coordinator_address: HOST:PORT at which process 0 listens.
      num_processes: how many there are.
      process_id: which this one is, from 0.
      find: take these from the environment: the variables JAX_COORDINATOR_ADDRESS,
        JAX_NUM_PROCESSES and JAX_PROCESS_ID or, in a Job of Kubernetes,
        JOB_COMPLETION_INDEX; else what JAX knows of Cloud TPU, GKE, Slurm and Open MPI.
      start_timeout_s: seconds to wait for the others.
      heartbeat_timeout_s: seconds after which a silent process is taken for dead.

    Raises:
      ValueError: if the arguments or variables make no sense, or nothing is found.
      OSError: if process 0 cannot listen at its port.
    """
    place = _from_flags(coordinator_address, num_processes, process_id)
    if place is None and find:
        place = _from_variables()
    elif place is None:
        return
    values = {}
    if place is not None:
        _check_port(place)
        # Or JAX would take what is not given, the devices to use, from Slurm.
        values = place._asdict() | {"cluster_detection_method": "deactivate"}
    with _limit(start_timeout_s):
        try:
            jax.distributed.initialize(
                **values,
                # Never the first to fail: it aborts with a stack of C++.
                initialization_timeout=start_timeout_s + 60,
                heartbeat_timeout_seconds=heartbeat_timeout_s,
            )
        except (ValueError, KeyError) as error:
            raise ValueError(
                f"--multi_process found no other processes ({error}). It looks for the "
                f"variables {_ADDRESS}, {_COUNT} and {' or '.join(_INDICES)}, and for "
                "Cloud TPU, GKE, Slurm and Open MPI. Without these, give "
                f"{', '.join(_FLAGS)}"
            ) from error


def check_shared(key: str, folder: str, *, timeout_s: float = _DISK_TIMEOUT_S) -> None:
    """Raises OSError, in all processes, unless all see the same folder."""
    if jax.process_count() == 1:
        return
    # A name that no earlier run can have left there.
    number = np.random.default_rng().integers(1 << 31, dtype=np.int32)
    number = multihost_utils.broadcast_one_to_all(number)
    mark = epath.Path(folder) / f".shared_{number}"
    if jax.process_index() == 0:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.write_text("")
    multihost_utils.sync_global_devices("mark")
    deadline = time.monotonic() + timeout_s
    while not (is_seen := mark.exists()) and time.monotonic() < deadline:
        time.sleep(0.5)
    seen = multihost_utils.process_allgather(np.array(is_seen))
    if jax.process_index() == 0:
        mark.unlink()
    if not np.all(seen):
        raise OSError(
            f"{key} is {folder}, but process {np.argmin(seen)} does not see there what "
            "process 0 writes: give one of a disk that all machines share, or of a "
            "bucket (gs://…)"
        )


def wait_for_others(name: str) -> None:
    """Returns once all processes have come, be it after a long compilation.

    Collectives of gloo give up where processes come half a minute apart.

    Args:
      name: of the place in the program; used once.
    """
    if jax.process_count() > 1:
        client = distributed.global_state.client
        assert client
        client.wait_at_barrier(name, _COMPILE_TIMEOUT_S * 1000)


def _from_flags(*given) -> _Place | None:
    missing = [flag for flag, x in zip(_FLAGS, given, strict=True) if x is None]
    if len(missing) == len(_FLAGS):
        return None
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} missing: give {', '.join(_FLAGS)} together, or "
            "--multi_process to find them in the environment"
        )
    return _checked(_Place(*given), _FLAGS)


def _from_variables() -> _Place | None:
    index = next((name for name in _INDICES if name in os.environ), None)
    if index is None or _ADDRESS not in os.environ or _COUNT not in os.environ:
        return None
    names = (_ADDRESS, _COUNT, index)
    address, *numbers = (os.environ[name] for name in names)
    for name, number in zip(names[1:], numbers, strict=True):
        if not number.isdecimal():
            raise ValueError(f"{name} is {number!r}: it must be a number")
    return _checked(_Place(address, *map(int, numbers)), names)


def _checked(place: _Place, names: tuple[str, ...]) -> _Place:
    host, _, port = place.coordinator_address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(
            f"{names[0]} is {place.coordinator_address!r}: give HOST:PORT of process 0"
        )
    if not 0 <= place.process_id < place.num_processes:
        raise ValueError(
            f"{names[2]} is {place.process_id}, but {names[1]} is "
            f"{place.num_processes}: processes are numbered from 0 to one less"
        )
    return place


def _check_port(place: _Place) -> None:
    # A failure inside of JAX may be a segmentation fault.
    if place.process_id == 0:
        port = int(place.coordinator_address.rpartition(":")[2])
        try:
            socket.create_server(("", port)).close()
        except OSError as error:
            raise OSError(
                f"process 0 cannot listen at {place.coordinator_address}: "
                f"{error.strerror}. Choose another port, the same for all processes"
            ) from None


@contextlib.contextmanager
def _limit(seconds: int) -> Iterator[None]:
    """Ends the process unless it leaves in time: JAX cannot be interrupted there."""

    def end() -> None:
        print(_describe_wait(seconds), file=sys.stderr, flush=True)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _describe_wait(seconds: int) -> str:
    state = distributed.global_state
    address = state.coordinator_address
    who = f"process {state.process_id} waited {seconds} s"
    if address is None:
        return f"{who} for JAX to find the other processes"
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection(
            (host.strip("[]"), int(port)), _PROBE_TIMEOUT_S
        ).close()
    except OSError as error:
        return (
            f"{who} for process 0 at {address}, which cannot be reached ({error}): "
            "start it, or correct the address, or let the port through"
        )
    return (
        f"{who}: process 0 at {address} answers, but not all of the "
        f"{state.num_processes} processes have come to it. Look at what they say"
    )
