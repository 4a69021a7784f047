"""Eight devices on one CPU, quiet TensorFlow, and nothing left to chance."""

import os

# Before the import of jax, which reads them.
os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        # On a busy machine a device may wait for another longer than the usual 40 s.
        "--xla_cpu_collective_call_terminate_timeout_seconds=600",
        # Compilation is most of the suite's time: 18 s a train step instead of 30, and
        # without the newer code generator of loops half of that.
        "--xla_backend_optimization_level=0",
        "--xla_llvm_disable_expensive_passes=true",
        "--xla_cpu_use_fusion_emitters=false",
    ]
)
# A collective holds its thread: with one a device, two collectives that devices enter
# in different order wait for each other for ever.
os.environ["PJRT_NPROC"] = "64"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import jax
import pytest

_LONGEST = {
    "test_step.py",
    "test_entry_points.py",
    "test_survival.py",
    "test_many_processes.py",
    "test_export.py",
}


def pytest_collection_modifyitems(items):
    """So that of several processes none is left alone with the longest files."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@pytest.fixture(scope="session", autouse=True)
def strict_jax(tmp_path_factory):
    """Typed keys only; what one test compiled, the next one loads, or its scripts."""
    cache = tmp_path_factory.mktemp("jax_cache")
    jax.config.update("jax_compilation_cache_dir", str(cache))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    jax.config.update("jax_legacy_prng_key", "error")
