"""Networks of a few thousand weights and batches for them."""

import numpy as np
import pytest

from configs import common
from segnext_jax.models import segnext

NUM_CLASSES = 5


@pytest.fixture
def config(make_config):
    """Of the segmentation task."""
    return make_config("segmentation")


@pytest.fixture(scope="session")
def make_config():
    """Task → a whole config whose network compiles in seconds."""
    tiny = segnext.Variant((8, 16, 24, 32), (1, 1, 1, 1), 32, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(segnext.VARIANTS, "tiny", tiny)
        yield lambda task: _shrink(common.base(task))


def _shrink(config):
    config.model.variant = "tiny"
    config.model.dtype = "float32"
    config.model.depthwise = "xla"  # compiles several times faster
    config.data.crop_size = (64, 64)
    config.schedule.peak = 1e-3
    config.schedule.warmup_steps = 2
    config.train.batch_size = 2
    config.train.num_train_steps = 6
    config.train.log_every_steps = 2
    config.train.eval_every_steps = 3
    config.train.checkpoint_every_steps = 1
    config.eval.batch_size = 2
    return config


@pytest.fixture
def make_batch():
    """(seed, batch size, height, width) → a batch as data/pipeline.py makes it."""

    def make(
        seed: int, batch_size: int, height: int = 64, width: int = 64
    ) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        shape = (batch_size, height, width)
        label = rng.integers(0, NUM_CLASSES, shape).astype(np.uint8)
        label[rng.random(label.shape) < 0.1] = 255
        return {
            "image": rng.integers(0, 256, (*shape, 3), np.uint8),
            "label": label,
            "size": np.full((batch_size, 2), (height, width - 8), np.int32),
            "unreadable": np.zeros(batch_size, np.int32),
        }

    return make


@pytest.fixture(scope="session")
def make_images():
    """(seed, batch size) → a batch as data/classification.py makes it.

    The classes are colours: red, green, blue, white, black.
    """
    colours = 191 * np.array([*np.eye(3, dtype=int), [1, 1, 1], [0, 0, 0]])

    def make(seed: int, batch_size: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        label = rng.integers(0, NUM_CLASSES, batch_size, np.int32)
        noise = rng.integers(0, 64, (batch_size, 64, 64, 3))
        return {
            "image": (colours[label][:, None, None] + noise).astype(np.uint8),
            "label": label,
            "unreadable": np.zeros(batch_size, np.int32),
        }

    return make
