"""Deaths among real processes, which do nothing but live."""

import signal
import time

import pytest
from cluster import Cluster

from segnext_jax.parallel.liveness import _ADVICE as ADVICE


@pytest.fixture
def cluster():
    return Cluster(3, 1, environment={"SILENCE_S": "3"})


def last_line(text):
    return text.rstrip().splitlines()[-1]


def last_words(process, *, seconds=20):
    """The last line on stderr: of an aborted one, by a shell that outlives it."""
    deadline = time.monotonic() + seconds
    while ADVICE not in (text := process.stderr()):
        assert time.monotonic() < deadline, text
        time.sleep(0.05)
    return last_line(text)


@pytest.mark.parametrize("victim", [0, 1])
def test_death_ends_the_others_who_name_it(cluster, victim):
    with cluster.start(["tests/liveness_run.py"]) as processes:
        for process in processes:
            process.wait_for_text("ready")
        processes[victim].send_signal(signal.SIGKILL)
        for i, process in enumerate(processes):
            assert process.wait(seconds=30).returncode != 0
            line = last_words(process)
            assert line.startswith(f"Process {i} of 3")
            if i != victim:
                assert f"process {victim} died" in line


def test_exception_ends_the_others_who_tell_it(cluster):
    processes = cluster.run(["tests/liveness_run.py", "--fail=1"], seconds=60)
    assert [process.returncode for process in processes] == [1, 1, 1]
    cause = "process 1 failed with OSError: disk/0.jpg cannot be read"
    for i in (0, 2):
        line = processes[i].stderr.splitlines()[-1]
        assert (
            line.startswith(f"Process {i} of 3 ends because {cause}") and ADVICE in line
        )
    assert "Traceback" in processes[1].stderr
    assert "Traceback" not in processes[0].stderr + processes[2].stderr


def test_process_that_is_done_early_is_not_missed(cluster):
    """The others go on for longer than a silence may be."""
    processes = cluster.run(["tests/liveness_run.py", "--leave=1"], seconds=60)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert all(ADVICE not in process.stderr for process in processes)
