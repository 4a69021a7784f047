"""Who may import whom, and that an import does no work: read from syntax trees."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Package → what of the project it may import. Its own scripts nobody imports.
LAYERS = {
    "configs": {"configs"},
    "data": {"data"},
    "segnext_jax.ops": {"segnext_jax.ops"},
    "segnext_jax.visual": {"segnext_jax.visual"},
    "segnext_jax.parallel": {"segnext_jax.parallel"},
    "segnext_jax.models": {"segnext_jax.ops", "segnext_jax.models"},
    "segnext_jax.weights": {"segnext_jax.models", "segnext_jax.weights"},
    "segnext_jax.evaluation": {
        "segnext_jax.ops",
        "segnext_jax.models",
        "segnext_jax.parallel",
        "segnext_jax.visual",
        "segnext_jax.evaluation",
    },
    "segnext_jax.export": {
        "segnext_jax.ops",
        "segnext_jax.models",
        "segnext_jax.evaluation",
        "segnext_jax.export",
    },
    "segnext_jax.training": {
        "segnext_jax.ops",
        "segnext_jax.models",
        "segnext_jax.parallel",
        "segnext_jax.visual",
        "segnext_jax.weights",
        "segnext_jax.evaluation",
        "segnext_jax.training",
    },
    "segnext_jax.aot": {
        "segnext_jax.parallel",
        "segnext_jax.evaluation",
        "segnext_jax.training",
        "segnext_jax.aot",
    },
}
SCRIPTS = {"train", "eval", "predict", "demo"}
PROJECT = {"configs", "data", "segnext_jax", "benchmarks", "tools"} | SCRIPTS
# Package → what of others it may not import. configs/ may import ml_collections alone.
BANNED = {
    "configs": set(),
    "data": {"jax", "flax", "optax", "orbax", "clu"},
    "segnext_jax": {
        "tensorflow",
        "tensorflow_datasets",
        "absl.app",
        "absl.flags",
        "ml_collections.config_flags",
    },
}
CONFIGS_MAY_IMPORT = {"ml_collections", *sys.stdlib_module_names}

# jax.custom_vjp takes its rules by a call; it belongs to the definition.
REGISTRATIONS = {"defvjp", "defjvp"}
# Arrays of these start a device.
DEVICE_MODULES = {"jax", "jnp", "lax", "tf"}
GLOBAL_STATE = {"jax.config", "os.environ"}


def violations(path: str, source: str) -> list[str]:
    """What a file at `path`, relative to the root, does against the rules."""
    tree = ast.parse(source)
    found = [f"imports {name}" for name in _illegal_imports(path, tree)]
    if path.startswith(("segnext_jax/", "data/")):
        found += _global_state(tree)
        found += _work_at_import(tree.body)
    return [f"{path} {violation}" for violation in found]


def _illegal_imports(path: str, tree: ast.AST) -> Iterator[str]:
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    is_package = path.endswith("/__init__.py")
    for name in _imports(module, is_package, tree):
        top = name.split(".")[0]
        if (
            (top in SCRIPTS)
            or (top in PROJECT and not _is_layer_allowed(module, name))
            or any(_is_in(name, banned) for banned in _banned(module))
            or (_is_in(module, "configs") and top not in CONFIGS_MAY_IMPORT | PROJECT)
        ):
            yield name


def _imports(module: str, is_package: bool, tree: ast.AST) -> Iterator[str]:
    """Absolute names, e.g. "absl.flags" for `from absl import flags`."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _is_layer_allowed(module: str, name: str) -> bool:
    for package, allowed in LAYERS.items():
        if _is_in(module, package):
            return any(_is_in(name, other) for other in allowed)
    # Entry points, tools, benchmarks and tests compose everything; a package of
    # segnext_jax that has no row has no right.
    return not _is_in(module, "segnext_jax")


def _banned(module: str) -> set[str]:
    return BANNED.get(module.split(".")[0], set())


def _is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _global_state(tree: ast.AST) -> Iterator[str]:
    """Calls on, and assignments into, the configuration of the process."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            # Reading a variable of the environment, os.environ.get, is no change.
            targets = [] if node.func.attr == "get" else [node.func.value]
        elif isinstance(node, (ast.Assign, ast.Delete)):
            targets = [t.value for t in node.targets if _is_part(t)]
        elif isinstance(node, ast.AugAssign) and _is_part(node.target):
            targets = [node.target.value]
        for target in targets:
            if (name := ast.unparse(target)) in GLOBAL_STATE:
                yield f"changes {name} in line {node.lineno}"


def _is_part(node: ast.expr) -> bool:
    return isinstance(node, (ast.Attribute, ast.Subscript))


def _work_at_import(body: list[ast.stmt]) -> Iterator[str]:
    """Statements that are no docstring, import, definition or assigned constant."""
    for node in body:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.Pass():
                continue
            case ast.ClassDef():
                yield from _work_at_import(node.body)
                continue
            case ast.Expr(ast.Constant()):
                continue
            case ast.Expr(ast.Call(ast.Attribute(ast.Name(), attr))) if (
                attr in REGISTRATIONS
            ):
                continue
            case ast.Assign() | ast.AnnAssign():
                targets = (
                    node.targets if isinstance(node, ast.Assign) else [node.target]
                )
                if all(not _is_part(t) for t in targets) and not _starts_device(node):
                    continue
        yield f"does work at import in line {node.lineno}: {ast.unparse(node)[:60]}"


def _starts_device(node: ast.Assign | ast.AnnAssign) -> bool:
    calls = [n for n in ast.walk(node) if isinstance(n, ast.Call)]
    roots = {ast.unparse(call.func).split(".")[0] for call in calls}
    return bool(roots & DEVICE_MODULES)


FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in (
        "segnext_jax",
        "data",
        "configs",
        "tools",
        "benchmarks",
        "tests",
        ".",
    )
    for path in ROOT.glob("*.py" if folder == "." else f"{folder}/**/*.py")
)


@pytest.mark.parametrize("path", FILES)
def test_file_keeps_the_rules(path):
    assert violations(path, (ROOT / path).read_text()) == []


def test_every_package_of_segnext_jax_has_a_row():
    packages = {
        f"segnext_jax.{init.parent.name}"
        for init in ROOT.glob("segnext_jax/*/__init__.py")
    }
    assert packages == {name for name in LAYERS if name.startswith("segnext_jax.")}


def test_packages_have_an_order():
    """Every row imports rows above it alone: no two packages import each other."""
    seen = set()
    for package, allowed in LAYERS.items():
        seen.add(package)
        assert allowed <= seen, package


@pytest.mark.parametrize(
    ("path", "source"),
    [
        # Between segnext_jax, data and configs.
        ("segnext_jax/training/loop.py", "import data.pipeline"),
        ("segnext_jax/training/loop.py", "from configs import common"),
        ("segnext_jax/new/file.py", "from segnext_jax.ops import nmf"),
        ("data/pipeline.py", "from segnext_jax.ops.nmf import nmf"),
        ("data/sources/base.py", "import configs.common"),
        ("configs/mscan_t.py", "from segnext_jax.models import segnext"),
        ("configs/mscan_t.py", "import numpy as np"),
        # Packages of others.
        ("segnext_jax/models/mscan.py", "import tensorflow as tf"),
        ("segnext_jax/training/loop.py", "import tensorflow_datasets.public_api"),
        ("segnext_jax/training/loop.py", "from absl import flags, logging"),
        ("segnext_jax/training/loop.py", "from ml_collections import config_flags"),
        ("segnext_jax/training/loop.py", "def f():\n    import tensorflow"),
        ("data/pipeline.py", "import jax.numpy as jnp"),
        ("data/pipeline.py", "from flax import struct"),
        ("data/pipeline.py", "import optax"),
        # Layers.
        ("segnext_jax/ops/nmf.py", "from segnext_jax.models import layers"),
        ("segnext_jax/ops/nmf.py", "from ..models import layers"),
        ("segnext_jax/ops/__init__.py", "from .. import models"),
        ("segnext_jax/models/mscan.py", "from segnext_jax import training"),
        ("segnext_jax/visual/plots.py", "import segnext_jax.evaluation.metrics"),
        ("segnext_jax/parallel/mesh.py", "from segnext_jax.training import state"),
        ("segnext_jax/evaluation/metrics.py", "from segnext_jax.training import step"),
        # Entry points.
        ("tools/convert.py", "import train"),
        ("tests/test_train.py", "from eval import main"),
        ("predict.py", "import eval"),
        # Work at import.
        ("segnext_jax/ops/nmf.py", "print('loaded')"),
        ("segnext_jax/ops/nmf.py", "for x in range(3):\n    y = x"),
        ("segnext_jax/ops/nmf.py", "if DEBUG:\n    print()"),
        ("segnext_jax/ops/nmf.py", "BASES = jnp.ones((3, 3))"),
        ("segnext_jax/ops/nmf.py", "class Bases:\n    register()"),
        ("data/pipeline.py", "np.random.seed(0)"),
        ("data/pipeline.py", "MEAN: tf.Tensor = tf.constant(1.0)"),
        ("data/pipeline.py", "optax.extra = 1"),
        # State of the process, wherever it is changed.
        ("segnext_jax/ops/nmf.py", "jax.config.update('jax_enable_x64', True)"),
        ("segnext_jax/ops/nmf.py", "def f():\n    jax.config.jax_enable_x64 = True"),
        ("segnext_jax/ops/nmf.py", "def f():\n    os.environ['XLA_FLAGS'] = ''"),
        ("data/pipeline.py", "def f():\n    os.environ.setdefault('A', '1')"),
        ("data/pipeline.py", "def f():\n    os.environ['A'] += '1'"),
        ("data/pipeline.py", "def f():\n    del os.environ['A']"),
    ],
)
def test_checker_catches(path, source):
    assert len(violations(path, source)) >= 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("segnext_jax/models/mscan.py", "from segnext_jax.ops.nmf import nmf"),
        ("segnext_jax/models/mscan.py", "from . import layers"),
        ("segnext_jax/training/loop.py", "from absl import logging"),
        ("segnext_jax/training/loop.py", "from ml_collections import ConfigDict"),
        ("segnext_jax/ops/nmf.py", '"""Doc."""\nSTEPS = (6, 7)'),
        ("segnext_jax/ops/nmf.py", "_conv.defvjp(_forward, _backward)"),
        ("data/pipeline.py", "_logger = logging.getLogger(__name__)"),
        ("data/pipeline.py", "def f():\n    return os.environ.get('A')"),
        ("configs/mscan_t.py", "import math\nfrom configs import common"),
        ("train.py", "from data import pipeline\nfrom segnext_jax.ops import nmf"),
    ],
)
def test_checker_allows(path, source):
    assert violations(path, source) == []
