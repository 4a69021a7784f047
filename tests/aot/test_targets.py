import importlib.util

import pytest

from segnext_jax.aot import targets


@pytest.mark.parametrize(
    ("topology", "devices", "gib"),
    [
        ("v5e:4x8", 32, 16),
        ("v6e:16x16", 256, 32),
        ("v5p:2x2x4", 16, 95),
        ("v4:2x2x4", 32, 16),  # two devices a chip
    ],
)
def test_slices(topology, devices, gib):
    target = targets.tpu(topology)
    assert (target.name, target.num_devices) == (topology, devices)
    assert target.memory == gib * 2**30
    assert target.platform == "tpu"


@pytest.mark.parametrize("topology", ["v9:2x2", "v5e", "v5e:8", "v5e:4y8", ""])
def test_unknown_slices(topology):
    with pytest.raises(ValueError, match=r"--topology is .*generation and a shape"):
        targets.tpu(topology)


def test_the_slice_of_so_many_chips():
    assert targets.smallest_slice("v5e", 32).name == "v5e:4x8"
    assert targets.smallest_slice("v6e", 256).name == "v6e:16x16"
    with pytest.raises(ValueError, match=r"no slice of 24 chips.*v5e:2x2"):
        targets.smallest_slice("v5e", 24)
    with pytest.raises(ValueError, match=r"v5p.*use a shape"):
        targets.smallest_slice("v5p", 8)


def test_a_missing_compiler_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"libtpu.*requirements-tpu\.txt"):
        targets.check_compiler(targets.tpu("v5e:2x4"))
    with pytest.raises(ModuleNotFoundError, match=r"cuda13.*requirements-cuda\.txt"):
        targets.check_compiler(targets.gpu("h200", 1))


def test_the_environment_keeps_jax_off_accelerators():
    for target in (targets.tpu("v5e:2x4"), targets.gpu("h200", 1)):
        assert targets.environment(target)["JAX_PLATFORMS"] == "cpu"
