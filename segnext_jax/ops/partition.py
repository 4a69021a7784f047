"""What XLA's partitioner cannot split, each device on its own examples."""

import math
from collections.abc import Callable, Collection
from typing import Any

import jax
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def split_examples(
    function: Callable[..., Any], *, shared: Collection[int] = ()
) -> Callable[..., Any]:
    """`function` for a batch that lies on several devices, under `jit`.

    Without it, the partitioner would gather the batch on every device to call a Pallas
    kernel. What is summed over examples is so summed outside, of one result for each.
    There is no rule for `vmap`.

    Args:
      function: of arrays [b …], to one or several arrays [b …]; result i depends on
        example i alone, so that it can be called with any number of examples. It is
        traced again when XLA partitions, where other defaults may hold.
      shared: positions of the arguments without that axis, whole on every device.
    """

    def call(*args: jax.Array) -> Any:
        if _is_split_by_hand():
            return function(*args)
        results = jax.tree.leaves(jax.eval_shape(function, *args))
        whole: list[str] = []

        def term(ndim: int, is_shared: bool) -> str:
            first = len(whole)
            whole.extend(f"k{first + i}" for i in range(ndim - (not is_shared)))
            return " ".join(([] if is_shared else ["b"]) + whole[first:])

        terms = [term(arg.ndim, i in shared) for i, arg in enumerate(args)]
        rule = f"{', '.join(terms)} -> "
        rule += ", ".join(term(result.ndim, False) for result in results)
        # Of its own, as keywords of a partial function would be refused.
        split = custom_partitioning(lambda *args: function(*args))
        split.def_partition(
            partition, sharding_rule=rule, need_replication_factors=tuple(whole)
        )
        return split(*args)

    def partition(mesh: Mesh, args: Any, results: Any) -> Any:
        suggested = [array.sharding for array in (*args, *jax.tree.leaves(results))]
        if mesh.empty:  # inside of a shard_map: these have no names for its axes
            args, results = jax.tree.map(lambda array: array.sharding, (args, results))
            return mesh, function, results, args
        # Of arrays that came with shardings of their own the rule is not kept.
        by_example = [s for i, s in enumerate(suggested) if i not in shared]
        axes = next((s.spec[0] for s in by_example if s.spec and s.spec[0]), None)
        split, whole = NamedSharding(mesh, P(axes)), NamedSharding(mesh, P())
        return (
            mesh,
            function,
            jax.tree.map(lambda _: split, results),
            tuple(whole if i in shared else split for i in range(len(args))),
        )

    return call


def sum_over_examples(
    function: Callable[..., jax.Array], *arrays: jax.Array
) -> jax.Array:
    """`function` of arrays [b …], a sum over their examples: each device of its own.

    XLA's partitioner would gather the batch for a convolution in groups. The axes that
    share the batch are those of the mesh of `jax.sharding.use_abstract_mesh` that no
    shard_map has taken.
    """
    axes = _free_axes()
    if not axes:
        return function(*arrays)
    return jax.shard_map(
        lambda *own: lax.psum(function(*own), axes),
        in_specs=P(axes),
        out_specs=P(),
        axis_names=set(axes),
        check_vma=False,
    )(*arrays)


def map_examples(
    function: Callable[[Any, Any], Any], examples: Any, parameters: Any
) -> Any:
    """function(examples, parameters): each device of its own examples [b …].

    For kernels of Mosaic, which XLA's partitioner cannot split, and refuses; the
    compiler for TPUs that are elsewhere knows no `custom_partitioning`. The axes are
    those of `sum_over_examples`.
    """
    axes = _free_axes()
    if not axes:
        return function(examples, parameters)
    return jax.shard_map(
        function,
        in_specs=(P(axes), P()),
        out_specs=P(axes),
        axis_names=set(axes),
        check_vma=False,
    )(examples, parameters)


def can_map_examples(b: int) -> bool:
    """Whether `map_examples` knows where b examples lie, equally many on each device.

    Without a mesh all of them are on the one device that there is, if there is one.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return jax.device_count() == 1
    return b % math.prod(mesh.shape[axis] for axis in _free_axes()) == 0


def _free_axes() -> tuple[str, ...]:
    mesh = jax.sharding.get_abstract_mesh()
    return tuple(axis for axis in mesh.axis_names if axis not in mesh.manual_axes)


def _is_split_by_hand() -> bool:
    """Whether a shard_map leaves no axis to XLA, for which JAX's partitioner fails."""
    mesh = jax.sharding.get_abstract_mesh()
    others = (n for axis, n in mesh.shape.items() if axis not in mesh.manual_axes)
    return bool(mesh.manual_axes) and all(n == 1 for n in others)
