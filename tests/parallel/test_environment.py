"""What is said of the machine, and what is not."""

import platform
import socket

import jax

from segnext_jax.parallel.environment import environment


def test_versions_and_devices_are_named():
    values = environment()
    assert values["jax"] == jax.__version__
    assert values["Python"] == platform.python_version()
    kind = jax.devices()[0].device_kind
    assert values["devices"] == f"{jax.device_count()} × {kind}"
    assert values["processes"] == "1"


def test_the_machine_is_not_told():
    assert socket.gethostname() not in environment().values()
