"""What a compiled program costs, as a record, as text and as a table."""

from typing import Any

from segnext_jax.aot import cost, hlo
from segnext_jax.aot.compiling import Result
from segnext_jax.aot.targets import Target

_NUM_KERNELS = 12  # of the largest, and families of them
_GIB = 2**30

TITLE = ("config", "program", "target", "mesh")  # keys of a record
Record = dict[str, Any]  # JSON


def make_record(result: Result, target: Target) -> Record:
    """Everything that is printed, for one device; bytes and seconds."""
    module = hlo.parse(result.hlo)
    kernels = cost.kernels(module)
    total = result.memory.total
    return {
        "fits": total <= target.memory,
        "memory": {**result.memory._asdict(), "total": total},
        "capacity": target.memory,
        "bytes": sum(kernel.bytes for kernel in kernels),
        "flops": cost.flops(module)._asdict(),
        "kernels": sum(kernel.times for kernel in kernels),
        "cycles": cost.cycles(module),
        "pallas_kernels": cost.num_pallas_kernels(module),
        "collectives": {
            kind: found._asdict() for kind, found in cost.collectives(module).items()
        },
        "families": dict(cost.families(kernels).most_common(_NUM_KERNELS)),
        "largest": [kernel._asdict() for kernel in kernels[:_NUM_KERNELS]],
        "seconds": result.seconds,
        "is_complete": result.is_complete,
    }


def describe(record: Record, *, with_kernels: bool = False) -> str:
    """A paragraph of lines on one program."""
    if "error" in record:
        return f"  DOES NOT FIT into {_gib(record['capacity'])}: {record['error']}"
    memory, flops, seconds = record["memory"], record["flops"], record["seconds"]
    code = "not generated" if memory["code"] is None else _gib(memory["code"])
    # A GPU's are calls of cuDNN and cuBLAS, whose insides are not in the program.
    products = f"{flops['matrix'] / 1e9:,.1f} G" if flops["matrix"] else "not counted"
    verdict = "fits" if record["fits"] else "DOES NOT FIT"
    sent = [
        f"{kind} {found['times']} × {_mb(found['bytes'] / found['times'])}"
        f" = {_mb(found['bytes'])}"
        for kind, found in record["collectives"].items()
    ]
    # Records of before do not have them.
    cycles = f", {record['cycles'] / 1e6:,.0f} M cycles" if record.get("cycles") else ""
    if cycles and (count := record.get("pallas_kernels")):
        cycles += f" without {count} of Pallas"
    lines = [
        f"  memory     {_gib(memory['total'])} of {_gib(record['capacity'])}:"
        f" {verdict}",
        f"    arguments {_gib(memory['arguments'])},"
        f" outputs {_gib(memory['outputs'])}"
        f" ({_gib(memory['aliased'])} in place of arguments),"
        f" temporaries {_gib(memory['temporaries'])}, code {code}",
        f"  traffic    {_gb(record['bytes'])} in {record['kernels']:,} kernels{cycles}",
        f"  FLOPs      {products} in products of matrices,"
        f" {flops['vector'] / 1e9:,.1f} G elsewhere",
        f"  sent       {', '.join(sent) or 'nothing'}",
        f"  compiled   in {seconds['compile']:.0f} s, traced in"
        f" {seconds['trace']:.0f} s",
    ]
    return "\n".join(lines + (_kernels(record) if with_kernels else []))


def table(records: list[Record]) -> str:
    """Markdown; every row also as a share of the first of its config and target."""
    lines = [
        "| config | target | mesh | program | memory | temporaries | of it | traffic"
        " | of it | collectives | fits |",
        "|---|---|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    first: dict[tuple[str, ...], Record] = {}
    for record in (record for record in records if "error" not in record):
        kind = record["target"].split(":")[0]
        group = (record["config"], kind, record["program"])
        start = first.setdefault(group, record)
        memory = record["memory"]
        parts = [
            record["config"],
            record["target"],
            record["mesh"],
            record["program"],
            _gib(memory["total"]),
            _gib(memory["temporaries"]),
            _share(memory["temporaries"], start["memory"]["temporaries"]),
            _gb(record["bytes"]),
            _share(record["bytes"], start["bytes"]),
            str(sum(kind["times"] for kind in record["collectives"].values())),
            "yes" if record["fits"] else "no",
        ]
        lines.append(f"| {' | '.join(parts)} |")
    return "\n".join(lines)


def too_large(message: str, target: Target) -> Record:
    """The record of a program that the compiler found too large."""
    return {"fits": False, "capacity": target.memory, "error": message.split("\n")[0]}


def _kernels(record: Record) -> list[str]:
    families = (
        f"    {_gb(size):>10}  {name}" for name, size in record["families"].items()
    )
    largest = (
        f"    {_gb(kernel['bytes']):>10}  × {kernel['times']} {kernel['name']}"
        f"  {kernel['op_name'][-80:]}"
        for kernel in record["largest"]
    )
    return [
        "  traffic by family of kernels",
        *families,
        "  largest kernels",
        *largest,
    ]


def _share(size: int, whole: int) -> str:
    return f"{size / whole:.2f}" if whole else "-"


def _gib(size: float) -> str:
    return f"{size / _GIB:.2f} GiB"


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB"


def _mb(size: float) -> str:
    return f"{size / 1e6:.3g} MB"
