"""Between the variables of a model and the tensors of a file, strictly."""

import collections
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np

from segnext_jax.models.segnext import VARIANTS, Variables
from segnext_jax.weights.naming import Naming

Shapes = dict[str, tuple[int, ...]]  # by path, e.g. backbone/stem/conv1/kernel
Tensors = dict[str, np.ndarray]

_STATISTICS = ("mean", "var")
_BACKBONE = "backbone."
_BLOCK = re.compile(r"_block(\d+)/")
# A float16 or bfloat16 is a float32; a float64 is not.
_EXACT = ("float32", "float16", "bfloat16")


class Imported(NamedTuple):
    variables: Variables  # float32, without what was left out
    counters: dict[str, int]  # batches that a BatchNorm has seen, by its path
    left_out: list[str]  # names of tensors in the file that were not asked for


def shapes(model: Any) -> Shapes:
    """Path → shape of everything that a model learns or averages."""
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(
        lambda image: model.init(jax.random.key(0), image, train=False), image
    )
    weightless = jax.tree.map(lambda x: _weightless(x.shape), variables)
    return {path: x.shape for path, x in flatten(weightless).items()}


def flatten(variables: Variables) -> dict[str, np.ndarray]:
    """Params and statistics in one dictionary by path, those of each block apart.

    The blocks of a stage are stacked in the model, backbone/stage1_blocks/… [n …]; here
    they are n arrays backbone/stage1_block0/… and so on, as peers have them.
    """
    flat = {}
    for name in ("params", "batch_stats"):
        tree = flax.traverse_util.flatten_dict(variables[name], sep="/")
        for path, x in tree.items():
            x = np.asarray(x)
            stage, is_stacked, rest = path.partition("_blocks/")
            if is_stacked:
                blocks = {f"{stage}_block{i}/{rest}": each for i, each in enumerate(x)}
                flat.update(blocks)
            else:
                flat[path] = x
    return flat


def unflatten(flat: Mapping[str, np.ndarray]) -> Variables:
    """Undoes `flatten`."""
    parts = collections.defaultdict(list)
    for path in sorted(flat, key=_block_index):
        parts[_BLOCK.sub("_blocks/", path)].append(flat[path])
    trees: Variables = {"params": {}, "batch_stats": {}}
    for path, arrays in parts.items():
        is_statistic = path.rpartition("/")[2] in _STATISTICS
        x = np.stack(arrays) if "_blocks/" in path else arrays[0]
        trees["batch_stats" if is_statistic else "params"][path] = x
    return {
        name: flax.traverse_util.unflatten_dict(tree, sep="/")
        for name, tree in trees.items()
    }


def _block_index(path: str) -> int:
    match = _BLOCK.search(path)
    return int(match.group(1)) if match else 0


def adopt(
    tensors: Tensors,
    expected: Shapes,
    naming: Naming,
    *,
    origin: str,
    leave_out: Iterable[str] = (),
) -> Imported:
    """The tensors of a file as variables: every tensor used once, every shape checked.

    Args:
      tensors: by the names of the file, in its layout.
      expected: of the model.
      naming: what the names are.
      origin: the file, for messages.
      leave_out: modules, e.g. "decoder", that are neither taken nor missed.

    Raises:
      ValueError: with all tensors that are missing, unexpected or of another shape or
        type.
    """
    leave_out = tuple(leave_out)
    bare = is_bare(tensors)
    paths, counters = {}, {}
    for path in expected:
        if not path.startswith(tuple(f"{module}/" for module in leave_out)):
            paths[naming.name(path, bare=bare)] = path
            if counter := naming.counter_of(path, bare=bare):
                counters[counter] = path.removesuffix("/mean")
    ignored = tuple(p for module in leave_out for p in naming.prefixes(module))
    left_out = [name for name in tensors if name.startswith(ignored)]
    problems = _problems(
        {n: x for n, x in tensors.items() if n not in left_out and n not in counters},
        foreign_shapes({p: expected[p] for p in paths.values()}, naming, bare=bare),
    )
    if problems:
        raise ValueError(
            f"{origin} does not fit the model:\n"
            + "\n".join([*problems, describe(tensors, naming)])
        )
    flat = {
        path: naming.adopt(path, tensors[name], len(expected[path]))
        for name, path in paths.items()
    }
    return Imported(
        unflatten({p: np.ascontiguousarray(x, np.float32) for p, x in flat.items()}),
        {p: int(tensors[name]) for name, p in counters.items() if name in tensors},
        left_out,
    )


def export(
    variables: Variables,
    naming: Naming,
    *,
    bare: bool = False,
    counters: Mapping[str, int] | None = None,
) -> Tensors:
    """The variables as the tensors of a file; undoes `adopt`.

    Args:
      variables: of a model.
      naming: of the peer that is to read them.
      bare: without the leading `backbone.`, as files of a backbone with its ImageNet
        head are.
      counters: batches seen by each BatchNorm, by its path; without, they are left out.
    """
    tensors = {}
    for path, x in flatten(variables).items():
        name = naming.name(path, bare=bare)
        tensors[name] = np.ascontiguousarray(naming.export(path, np.asarray(x)))
    for path, seen in (counters or {}).items():
        if counter := naming.counter_of(f"{path}/mean", bare=bare):
            tensors[counter] = np.asarray(seen, np.int64)
    return tensors


def foreign_shapes(shapes: Shapes, naming: Naming, *, bare: bool = False) -> Shapes:
    """The same, by the names and in the layout of a peer; without counters."""
    return {
        naming.name(path, bare=bare): naming.export(path, _weightless(shape)).shape
        for path, shape in shapes.items()
    }


def _weightless(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros that take no memory."""
    return np.broadcast_to(np.float32(0), shape)


def describe(tensors: Tensors, naming: Naming) -> str:
    """What a file holds, as far as its tensors show, and so which config it needs."""
    bare = is_bare(tensors)

    def shape(path: str) -> tuple[int, ...]:
        name = naming.name(path, bare=bare)
        return tensors[name].shape if name in tensors else ()

    embed_dims: list[int] = []
    depths: list[int] = []
    for stage in range(1, 5):
        embed_dims += shape(f"backbone/stage{stage}_norm/scale")
        blocks = (f"backbone/stage{stage}_block{b}/norm1/scale" for b in range(99))
        depths.append(sum(bool(shape(path)) for path in blocks))
    variants = [
        name
        for name, variant in VARIANTS.items()
        if (variant.embed_dims, variant.depths) == (tuple(embed_dims), tuple(depths))
    ]
    backbone = (
        f"the backbone of model.variant {variants[0]!r}"
        if variants
        else (
            f"a backbone of {embed_dims} channels and {depths} blocks, no published one"
        )
    )
    channels = shape("decoder/squeeze_norm/scale")
    classes = shape("decoder/classifier/bias")
    if naming.prefixes("head"):  # PaddleSeg has none
        classes = classes or shape("head/bias")
    parts = [
        backbone,
        f"a decoder of {channels[0]} channels" if channels else "no decoder",
        f"{classes[0]} classes" if classes else "no classifier",
    ]
    return (
        f"It has {naming.label} names and holds {', '.join(parts)}: choose a config "
        "with these values, or get another file."
    )


def is_bare(names: Iterable[str]) -> bool:
    """Whether these names leave out the leading `backbone.`"""
    return not any(name.startswith(_BACKBONE) for name in names)


def _problems(tensors: Tensors, expected: Shapes) -> list[str]:
    missing = [n for n in expected if n not in tensors]
    unexpected = [n for n in tensors if n not in expected]
    common = {n: x for n, x in tensors.items() if n in expected}
    reshaped = {n: x for n, x in common.items() if x.shape != expected[n]}
    retyped = {n: x for n, x in common.items() if x.dtype.name not in _EXACT}
    return [
        *(f"  missing     {n} {_size(expected[n])}" for n in missing),
        *(f"  unexpected  {n} {_size(tensors[n].shape)}" for n in unexpected),
        *(
            f"  mis-shaped  {n} {_size(x.shape)}, the model's is {_size(expected[n])}"
            for n, x in reshaped.items()
        ),
        *(f"  {x.dtype}     {n}, float32 is needed" for n, x in retyped.items()),
    ]


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "scalar"
