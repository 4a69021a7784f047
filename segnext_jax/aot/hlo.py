"""The text of an optimised XLA program, read instruction by instruction."""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(
    r"\s+(ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*?)\)(, .*|$)"
)
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
_CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.\-]+)")


class Instruction(NamedTuple):
    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    literal: str  # between the parentheses: of a constant, or a parameter's number

    @property
    def called(self) -> str | None:
        """The computation that it runs, of those that run one."""
        found = _CALLED.search(self.attributes)
        return found and found.group(1)

    @property
    def op_name(self) -> str:
        """Where in the traced program it comes from."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found.group(1) if found else ""


class Computation(NamedTuple):
    instructions: dict[str, Instruction]  # by name
    root: str

    def parameters(self) -> list[str]:
        """Names of the parameters, in their order."""
        found = (i for i in self.instructions.values() if i.opcode == "parameter")
        return [i.name for i in sorted(found, key=lambda i: int(i.literal))]

    def users(self, name: str) -> Iterator[Instruction]:
        return (i for i in self.instructions.values() if name in i.operands)


class Module(NamedTuple):
    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """Reads `compiled.as_text()`, or what --xla_dump_hlo_as_text writes.

    Raises:
      ValueError: if there is no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry, name, root = "", "", ""
    instructions: dict[str, Instruction] = {}
    for line in text.splitlines():
        if not line.startswith(" "):
            if head := _COMPUTATION.match(line):
                name, instructions = head.group(2), {}
                entry = name if head.group(1) else entry
            elif line.startswith("}"):
                computations[name] = Computation(instructions, root)
        elif found := _INSTRUCTION.match(line):
            is_root, out, shape, opcode, inside, attributes = found.groups()
            operands = tuple(re.findall(r"%([\w.\-]+)", inside))
            instructions[out] = Instruction(
                out, shape, opcode, operands, attributes, inside
            )
            root = out if is_root else root
    if entry not in computations:
        raise ValueError("the text is no optimised XLA program: it has no entry")
    return Module(computations, entry)


def num_bytes(shape: str, *, hbm_only: bool = False) -> int:
    """Bytes of an array, or of all in a tuple, with the padding of a TPU's tiles.

    Args:
      shape: e.g. `(bf16[8,64]{1,0:T(8,128)(2,1)S(1)}, f32[])`.
      hbm_only: without the arrays in other memories, such as a TPU's VMEM, S(1).
    """
    total = 0
    for kind, dims, order, layout in _ARRAY.findall(shape):
        if hbm_only and "S(" in layout:
            continue
        total += math.ceil(_bits(kind) * _num_stored(dims, order, layout) / 8)
    return total


def num_elements(shape: str) -> int:
    """Of the first array, without padding."""
    found = _ARRAY.search(shape)
    return math.prod(_integers(found.group(2))) if found else 0


def dimensions(shape: str) -> list[int]:
    """Of the first array."""
    found = _ARRAY.search(shape)
    return _integers(found.group(2)) if found else []


def _bits(kind: str) -> int:
    if kind == "pred":
        return 8
    digits = re.search(r"\d+", kind)
    return int(digits.group()) if digits else 0  # tokens have no bits


def _num_stored(dims: str, order: str, layout: str) -> int:
    stored = _integers(dims)
    if tile := re.match(r"T\(([\d,]+)\)", layout):
        stored = [stored[axis] for axis in reversed(_integers(order))]
        for place, length in enumerate(reversed(_integers(tile.group(1))), 1):
            if place <= len(stored):
                stored[-place] = -(-stored[-place] // length) * length
    return math.prod(stored)


def _integers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]
