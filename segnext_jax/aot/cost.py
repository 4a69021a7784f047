"""What an optimised XLA program moves, computes and sends, on one device.

Every kernel reads its operands and writes its result once; of an operand that it only
slices, the slices. Kernels in a loop count once for each of its iterations. XLA's own
`cost_analysis` counts them once in all.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from segnext_jax.aot.hlo import (
    Computation,
    Instruction,
    Module,
    dimensions,
    num_bytes,
    num_elements,
)

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "collective-permute",
    "all-to-all",
)
# Names for what is elsewhere, and the ends of what was counted at its start.
_FREE = {
    "parameter",
    "constant",
    "get-tuple-element",
    "tuple",
    "bitcast",
    "after-all",
    "opt-barrier",
    "partition-id",
    "replica-id",
}
_ARITHMETIC = {
    "add",
    "subtract",
    "multiply",
    "divide",
    "maximum",
    "minimum",
    "negate",
    "abs",
    "exponential",
    "log",
    "tanh",
    "erf",
    "rsqrt",
    "sqrt",
    "power",
}
_RENAMES = {"bitcast", "reshape", "get-tuple-element"}


class Kernel(NamedTuple):
    name: str
    opcode: str
    op_name: str  # where it comes from in the traced program
    times: int
    bytes: int  # of device memory, all times together


class Collective(NamedTuple):
    times: int
    bytes: int  # that a device contributes


class Flops(NamedTuple):
    matrix: int  # of convolutions and matrix products
    vector: int  # of arithmetic on single elements


def kernels(module: Module) -> list[Kernel]:
    """All kernels, the largest first."""
    found = _walk(module, module.entry, 1)
    return sorted(
        (
            Kernel(
                instruction.name,
                instruction.opcode,
                instruction.op_name,
                times,
                times * _traffic(module, computation, instruction),
            )
            for computation, instruction, times in found
        ),
        key=lambda kernel: -kernel.bytes,
    )


def families(kernels: list[Kernel]) -> Counter[str]:
    """Bytes by the name of the kernels without its number."""
    total: Counter[str] = Counter()
    for kernel in kernels:
        total[re.sub(r"(\.(clone|\d+))+$", "", kernel.name)] += kernel.bytes
    return total


def collectives(module: Module) -> dict[str, Collective]:
    """By kind."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for computation, instruction, times in _walk(module, module.entry, 1, inside=True):
        kind = instruction.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            counts[kind] += times
            sizes[kind] += times * sum(
                num_bytes(computation.instructions[name].shape)
                for name in instruction.operands
            )
    return {kind: Collective(counts[kind], sizes[kind]) for kind in sorted(counts)}


def flops(module: Module) -> Flops:
    """Two for every product that is summed; one for every other element."""
    matrix = vector = 0
    for computation, instruction, times in _walk(module, module.entry, 1, inside=True):
        if instruction.opcode in ("convolution", "dot"):
            matrix += times * _product_flops(computation, instruction)
        elif instruction.opcode in _ARITHMETIC:
            vector += times * num_elements(instruction.shape)
        elif instruction.opcode == "reduce":
            (summed, *_) = instruction.operands
            vector += times * num_elements(computation.instructions[summed].shape)
    return Flops(matrix, vector)


def num_pallas_kernels(module: Module) -> int:
    """Those for TPUs, of which `cycles` knows nothing."""
    return sum(
        times
        for _, instruction, times in _walk(module, module.entry, 1)
        if 'custom_call_target="tpu_custom_call"' in instruction.attributes
    )


def cycles(module: Module) -> int:
    """What the compiler for TPUs expects of all kernels; 0 from other compilers.

    It expects nothing of those of Pallas.
    """
    return sum(
        times * int(found.group(1))
        for _, instruction, times in _walk(module, module.entry, 1)
        if (found := re.search(r'"estimated_cycles":"(\d+)"', instruction.attributes))
    )


def trip_count(module: Module, loop: Instruction) -> int:
    """Iterations of a `while` that counts up from 0; 1 where they are not known."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.attributes):
        return int(known.group(1))
    found = re.search(r"condition=%?([\w.\-]+)", loop.attributes)
    assert found, f"{loop.name} is a loop without a condition"
    condition = module.computations[found.group(1)]
    # XLA for TPU does not note the number; its conditions are `i < constant`.
    test = condition.instructions[condition.root]
    if test.opcode != "compare" or "direction=LT" not in test.attributes:
        return 1
    limit = condition.instructions[test.operands[1]]
    return int(limit.literal) if limit.opcode == "constant" else 1


def _walk(
    module: Module, name: str, times: int, *, inside: bool = False
) -> Iterator[tuple[Computation, Instruction, int]]:
    """What runs as a kernel, or, inside of kernels too, every instruction."""
    computation = module.computations[name]
    for instruction in computation.instructions.values():
        called, opcode = instruction.called, instruction.opcode
        if opcode == "while":
            assert called is not None
            trips = trip_count(module, instruction)
            yield from _walk(module, called, times * trips, inside=inside)
        elif opcode == "conditional":
            for branch in _branches(instruction):
                yield from _walk(module, branch, times, inside=inside)
        elif opcode == "call" or (inside and opcode in ("fusion", "async-start")):
            assert called is not None
            yield from _walk(module, called, times, inside=inside)
        elif opcode not in _FREE and "AllocateBuffer" not in instruction.attributes:
            yield computation, instruction, times


def _branches(instruction: Instruction) -> list[str]:
    """All of them: which is taken is not known, so the sum is a bound."""
    found = re.search(r"branch_computations=\{([^}]*)\}", instruction.attributes)
    if found:
        return re.findall(r"[\w.\-]+", found.group(1))
    return re.findall(
        r"(?:true|false)_computation=%?([\w.\-]+)", instruction.attributes
    )


def _traffic(module: Module, computation: Computation, i: Instruction) -> int:
    """Bytes of device memory that a kernel reads and writes."""
    shapes = {name: computation.instructions[name].shape for name in i.operands}
    if i.opcode.endswith("-start"):
        return 0
    if i.opcode.endswith("-done"):
        # The shape of its start has the sources and the result in one.
        start = computation.instructions[i.operands[0]]
        sources = (computation.instructions[name].shape for name in start.operands)
        read = sum(num_bytes(shape, hbm_only=True) for shape in sources)
        # Of a slice, no more than the result.
        return min(read, num_bytes(i.shape)) + num_bytes(i.shape, hbm_only=True)
    if i.opcode == "fusion":
        assert i.called is not None
        body = module.computations[i.called]
        read = sum(
            min(_read(module, body, parameter), num_bytes(shapes[name]))
            for parameter, name in zip(body.parameters(), i.operands, strict=True)
            if num_bytes(shapes[name], hbm_only=True)
        )
        return read + _written(module, body, i.shape)
    if i.opcode in ("slice", "dynamic-slice"):
        read = (
            num_bytes(i.shape) if num_bytes(shapes[i.operands[0]], hbm_only=True) else 0
        )
        return read + num_bytes(i.shape, hbm_only=True)
    if i.opcode == "dynamic-update-slice":
        return 2 * num_bytes(shapes[i.operands[1]], hbm_only=True)
    read = sum(num_bytes(shapes[name], hbm_only=True) for name in i.operands)
    return read + num_bytes(i.shape, hbm_only=True)


def _read(module: Module, body: Computation, name: str) -> int:
    """Bytes that a fusion reads of the array `name` in it."""
    total = 0
    for user in body.users(name):
        if user.opcode in ("slice", "dynamic-slice"):
            total += num_bytes(user.shape)
        elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
            continue  # is written in place
        elif user.opcode in _RENAMES:
            total += _read(module, body, user.name)
        elif user.opcode == "fusion":
            assert user.called is not None
            inner = module.computations[user.called]
            total += sum(
                _read(module, inner, parameter)
                for parameter, operand in zip(
                    inner.parameters(), user.operands, strict=True
                )
                if operand == name
            )
        else:
            return num_bytes(body.instructions[name].shape)
    return min(total, num_bytes(body.instructions[name].shape))


def _written(module: Module, body: Computation, shape: str) -> int:
    """Bytes that a fusion with this result writes."""
    root = body.instructions[body.root]
    while root.opcode in _RENAMES:
        root = body.instructions[root.operands[0]]
    parts = root.operands if root.opcode == "tuple" else (root.name,)
    total = num_bytes(shape, hbm_only=True)
    for part in (body.instructions[name] for name in parts):
        if part.opcode == "dynamic-update-slice":
            update = body.instructions[part.operands[1]].shape
            total -= num_bytes(part.shape, hbm_only=True)
            total += num_bytes(update)
    return max(total, 0)


def _product_flops(computation: Computation, i: Instruction) -> int:
    left, right = (
        dimensions(computation.instructions[name].shape) for name in i.operands[:2]
    )
    if i.opcode == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", i.attributes)
        summed = 1
        for axis in contracted.group(1).split(",") if contracted else ():
            summed *= left[int(axis)] if axis else 1
        return 2 * num_elements(i.shape) * summed
    labels = re.search(r"dim_labels=(\w+)_(\w+)->", i.attributes)
    assert labels, f"{i.name} is a convolution without labels"
    lengths = dict(zip(labels.group(1), left, strict=True))
    summed = 1
    for label, length in zip(labels.group(2), right, strict=True):
        # A side of one element meets one element of the kernel: what compilers make of
        # a dimension that only the right factor of a product has.
        is_met_once = label.isdigit() and lengths[label] == 1
        summed *= 1 if label == "o" or is_met_once else length
    # Zeros that a dilation puts between elements are not multiplied.
    dilation = re.search(r"lhs_dilate=([\dx]+)", i.attributes)
    for factor in dilation.group(1).split("x") if dilation else ():
        summed //= int(factor)
    return 2 * num_elements(i.shape) * summed
