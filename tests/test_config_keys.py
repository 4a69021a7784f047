"""Every config key is read, and every key that is read exists: from syntax trees."""

import ast
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import common

ROOT = Path(__file__).parents[1]
TASKS = ("segmentation", "classification")
READERS = ["segnext_jax/**/*.py", "data/**/*.py", "train.py", "eval.py", "predict.py"]
# What the whole config, or one section of it, is called → the section.
ROOTS = {"config": (), "data_config": ("data",), "eval_config": ("eval",)}


def unread_keys(config: ConfigDict, reads: set[tuple[str, ...]]) -> set[str]:
    """Keys that no chain of attributes ends in.

    A reader has the whole config (`config.train.batch_size`) or a section of it
    (`config.power`). The latter counts where one section alone has such a key.
    """
    leaves = _leaves(config)
    names = [leaf[-1] for leaf in leaves]
    return {
        ".".join(leaf)
        for leaf in leaves
        if leaf not in reads
        and not (names.count(leaf[-1]) == 1 and (leaf[-1],) in reads)
    }


def unknown_reads(configs: list[ConfigDict], reads: set[tuple[str, ...]]) -> set[str]:
    """Chains into a section of the configs for which none has such a key."""
    known = set().union(*map(_leaves, configs))
    sections = {leaf[0] for leaf in known}
    return {
        ".".join(read)
        for read in reads
        if len(read) > 1
        and read[0] in sections
        and read[:2] not in known
        and not hasattr(ConfigDict, read[1])  # config.eval.items()
    }


def config_reads(source: str) -> set[tuple[str, ...]]:
    """Attributes of everything called config: `config.data.pad` is ("data", "pad").

    So is `data_config.pad`.
    """
    reads = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            root, *chain = ast.unparse(node).split(".")
            if root in ROOTS:
                reads.add((*ROOTS[root], *chain)[:2])
    return reads


def _leaves(config: ConfigDict, prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    leaves = set()
    for key, value in config.items():
        path = (*prefix, key)
        leaves |= _leaves(value, path) if isinstance(value, ConfigDict) else {path}
    return leaves


@pytest.fixture(scope="module")
def reads():
    files = [path for pattern in READERS for path in ROOT.glob(pattern)]
    return set().union(*(config_reads(path.read_text()) for path in files))


@pytest.mark.parametrize("task", TASKS)
def test_every_key_is_read(task, reads):
    assert unread_keys(common.base(task), reads) == set()


def test_every_read_key_exists(reads):
    assert unknown_reads([common.base(task) for task in TASKS], reads) == set()


def test_checker_catches_unread_and_unknown_keys(reads):
    config = common.base()
    config.unlock()
    config.surplus = 1
    config.model.surplus_rate = 0.5
    # Read as train's and eval's alone.
    config.model.batch_size = 4
    del config.data.pad
    assert unread_keys(config, reads) == {
        "surplus",
        "model.surplus_rate",
        "model.batch_size",
    }
    source = (
        "def f(data_config):\n    config.data.pad = 1\n    return data_config.pad[0]"
    )
    assert unknown_reads([config], config_reads(source)) == {"data.pad"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("config.data.pad", {("data",), ("data", "pad")}),
        ("f(config.power ** 2)", {("power",)}),
        ("data_config.pad.upper()", {("data", "pad")}),
        ("tuple(eval_config.resize_to)", {("eval", "resize_to")}),
        ("config.train.batch_size = 8", {("train",)}),
        ("other.train.batch_size", set()),
    ],
)
def test_reads_of_a_line(source, expected):
    assert config_reads(source) == expected
