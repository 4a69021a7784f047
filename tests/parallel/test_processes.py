"""How processes find each other, and what they say if they do not."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from segnext_jax.parallel.processes import start_processes

ROOT = Path(__file__).parents[2]
VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
SHARE = """
import sys, jax
from segnext_jax.parallel.processes import check_shared, start_processes
start_processes('{address}', 2, {index})
check_shared("--workdir", "{folder}", timeout_s=0.5)
"""
START = """
import jax
from segnext_jax.parallel.processes import start_processes
start_processes({arguments})
print(jax.process_index(), jax.process_count())
"""


def start(arguments: str, variables: dict[str, str] | None = None):
    """A process that starts so, and prints which of how many it is."""
    return run(START.format(arguments=arguments), variables)


def run(code: str, variables: dict[str, str] | None = None):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | (variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def address():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_process_alone_starts_nothing(monkeypatch):
    for name in VARIABLES:
        monkeypatch.setenv(name, "wrong")  # nobody asked to look
    start_processes()
    assert not jax.distributed.is_initialized()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("host:1", 2, None), "^--process_id missing: give --coordinator_address, "),
        ((None, None, 0), "^--coordinator_address and --num_processes missing"),
        (("host", 2, 0), "--coordinator_address is 'host': give HOST:PORT"),
        (("host:one", 2, 0), "--coordinator_address is 'host:one': give HOST:PORT"),
        (("host:1", 2, 2), "--process_id is 2, but --num_processes is 2"),
        (("host:1", 2, -1), "--process_id is -1, but --num_processes is 2"),
    ],
)
def test_flags_that_make_no_sense_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        start_processes(*given)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("host:1", "four", "0"), "JAX_NUM_PROCESSES is 'four': it must be a number"),
        (("host:1", "4", "4"), "JAX_PROCESS_ID is 4, but JAX_NUM_PROCESSES is 4"),
        (("host", "4", "0"), "JAX_COORDINATOR_ADDRESS is 'host': give HOST:PORT"),
    ],
)
def test_variables_that_make_no_sense_are_named(monkeypatch, values, message):
    for name, value in zip(VARIABLES, values, strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        start_processes(find=True)


def test_a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(OSError, match=f"cannot listen at {address}: Address alre"):
            start_processes(address, 2, 0)


def test_pods_of_an_indexed_job_find_each_other(address):
    variables = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2"}
    pods = [
        start("find=True", variables | {"JOB_COMPLETION_INDEX": str(i)})
        for i in range(2)
    ]
    outputs = [pod.communicate(timeout=120)[0] for pod in pods]
    assert outputs == ["0 2\n", "1 2\n"]


def test_whom_a_process_missed_is_its_last_message(address):
    pending = {
        "found no other processes": start("find=True, start_timeout_s=2"),
        f"process 1 waited 2 s for process 0 at {address}, which cannot be reached "
        "([Errno 111] Connection refused)": start(
            f"'{address}', 2, 1, start_timeout_s=2"
        ),
    }
    for message, process in pending.items():
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 1
        assert message in stderr.splitlines()[-1]
    # Process 0 has a port open, but nobody comes.
    first = start(f"'{address}', 2, 0, start_timeout_s=2")
    _, stderr = first.communicate(timeout=120)
    assert first.returncode == 1
    assert "not all of the 2 processes have come" in stderr.splitlines()[-1]


@pytest.mark.parametrize(("folders", "returncode"), [(("a", "a"), 0), (("a", "b"), 1)])
def test_a_folder_that_is_not_shared_is_named(tmp_path, address, folders, returncode):
    folders = [tmp_path / name for name in folders]
    processes = [
        run(SHARE.format(address=address, index=i, folder=folder))
        for i, folder in enumerate(folders)
    ]
    for process, folder in zip(processes, folders, strict=True):
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == returncode
        if returncode:
            message = f"OSError: --workdir is {folder}, but process 1 does not see"
            assert message in stderr
    assert list((tmp_path / "a").iterdir()) == []
