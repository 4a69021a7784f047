"""Accelerators that programs are compiled for, without one."""

import importlib.util
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

from jax.experimental import topologies

_GIB = 2**30
# Memory of a chip in GiB: "HBM capacity" in docs.cloud.google.com/tpu/docs/v5e and the
# pages of the other generations.
_TPU_MEMORY = {"v3": 32, "v4": 32, "v5e": 16, "v5p": 95, "v6e": 32}
_SLICES = {
    # As they are rented: docs.cloud.google.com/tpu/docs/tpu-config.
    generation: ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
    for generation in ("v5e", "v6e")
}
_GPUS = {"h200": Path(__file__).with_name("h200.txtpb")}
_GPU_MEMORY = {"h200": 141e9 / _GIB}  # NVIDIA's data sheet
GPUS = tuple(_GPUS)


class Target(NamedTuple):
    """Devices of one kind, as many as a mesh has."""

    name: str  # v5e:4x8, or h200
    platform: str  # jax.default_backend() there: tpu or gpu
    num_devices: int
    memory: int  # bytes of a device


def tpu(topology: str) -> Target:
    """A slice such as v5e:4x8.

    Raises:
      ValueError: if the generation is not known, or the rest is no shape.
    """
    found = re.fullmatch(r"(\w+):(\d+(?:x\d+)+)", topology)
    if not found or found.group(1) not in _TPU_MEMORY:
        raise ValueError(
            f"--topology is {topology!r}: use a generation and a shape in chips, e.g. "
            f"v5e:4x8; generations are {', '.join(_TPU_MEMORY)}"
        )
    generation, shape = found.groups()
    chips = math.prod(map(int, shape.split("x")))
    # JAX sees each of the two cores of these chips as a device.
    cores = 2 if generation in ("v3", "v4") else 1
    memory = _TPU_MEMORY[generation] * _GIB // cores
    return Target(topology, "tpu", chips * cores, memory)


def smallest_slice(generation: str, num_devices: int) -> Target:
    """The slice of so many chips that can be rented.

    Raises:
      ValueError: if there is none.
    """
    slices = [tpu(f"{generation}:{shape}") for shape in _SLICES.get(generation, ())]
    for target in slices:
        if target.num_devices == num_devices:
            return target
    raise ValueError(
        f"there is no slice of {num_devices} chips in --topology {generation}: use "
        f"{', '.join(target.name for target in slices) or 'a shape, e.g. v5p:2x2x2'}"
    )


def gpu(name: str, num_devices: int) -> Target:
    """GPUs of one machine."""
    return Target(name, "gpu", num_devices, int(_GPU_MEMORY[name] * _GIB))


def environment(target: Target) -> dict[str, str]:
    """Variables that must be set before JAX starts, to compile for this target here."""
    if target.platform == "tpu":
        return {
            "JAX_PLATFORMS": "cpu",
            # Do not ask the cloud which machine this is. The topology that is asked for
            # holds, whatever these say.
            "TPU_SKIP_MDS_QUERY": "1",
            "TPU_ACCELERATOR_TYPE": "v5litepod-8",
            "TPU_WORKER_HOSTNAMES": "localhost",
            # No chip is opened: several can compile at once.
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        }
    return {
        "JAX_PLATFORMS": "cpu",
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
        # Neither can try kernels out without a GPU.
        "XLA_FLAGS": "--xla_gpu_enable_triton_gemm=false --xla_gpu_autotune_level=0",
    }


def check_compiler(target: Target) -> None:
    """Raises ModuleNotFoundError if what compiles for the target is not installed."""
    modules, requirements = {
        "tpu": (["libtpu"], "requirements-tpu.txt"),
        # The plugin's name has the CUDA release.
        "gpu": (["jax_cuda13_plugin", "jax_cuda12_plugin"], "requirements-cuda.txt"),
    }[target.platform]
    if not any(map(importlib.util.find_spec, modules)):
        raise ModuleNotFoundError(
            f"{target.name} needs its compiler, {modules[0]}, but no accelerator: "
            f"pip install -r {requirements}"
        )


def devices(target: Target) -> list[Any]:
    """Descriptions of the devices; in the environment above.

    Raises:
      ValueError: if the compiler knows no such slice.
    """
    if target.platform == "gpu":
        return topologies.get_topology_desc(
            platform="cuda",
            target_config=_GPUS[target.name].read_text(),
            topology=f"1x1x{target.num_devices}",
        ).devices
    try:
        found = topologies.get_topology_desc(target.name, platform="tpu").devices
    except RuntimeError as error:  # of JAX
        raise ValueError(f"--topology is {target.name}: {error}") from error
    if len(found) != target.num_devices:
        raise ValueError(
            f"--topology {target.name} has {len(found)} devices in libtpu, "
            f"{target.num_devices} were expected"
        )
    return found
