from pathlib import Path

import golden_model
import pytest

from segnext_jax.ops import nmf
from segnext_jax.weights import convert

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def golden_folder():
    return GOLDEN


@pytest.fixture(scope="session")
def tiny():
    return golden_model.tiny_model()


@pytest.fixture(scope="session")
def tiny_shapes(tiny):
    return convert.shapes(tiny)


@pytest.fixture
def same_bases(monkeypatch):
    monkeypatch.setattr(nmf, "draw_bases", golden_model.draw_bases)
