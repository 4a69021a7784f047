"""A network of a few thousand weights, and images for it."""

import numpy as np
import pytest
import tiny_segnext

from configs import common
from data.evaluation import Bucket, plan_batches, stack_batch, view_sizes


@pytest.fixture(scope="session")
def tiny():
    """(model, variables)."""
    model = tiny_segnext.make_tiny()
    return model, tiny_segnext.draw_variables(model)


@pytest.fixture
def eval_config():
    return common.base().eval.unlock()


@pytest.fixture(scope="session")
def make_photo():
    """(seed, size) → image uint8 [h w 3] and train ids uint8 [h w], in blocks."""

    def make(seed, size):
        rng = np.random.default_rng(seed)
        blocks = rng.integers(0, 200, (-(-size[0] // 8), -(-size[1] // 8), 3))
        image = blocks.repeat(8, 0).repeat(8, 1)[: size[0], : size[1]]
        image = image + rng.integers(0, 56, image.shape)
        label = rng.integers(0, tiny_segnext.NUM_CLASSES, size).astype(np.uint8)
        label[rng.random(size) < 0.1] = 255
        return image.astype(np.uint8), label

    return make


@pytest.fixture(scope="session")
def read_photos():
    """(photos, config.eval, batch size) → their batches, as EvalReader makes them."""

    def read(photos, eval_config, batch_size):
        sizes = [label.shape for _, label in photos]
        for planned in plan_batches(sizes, eval_config, batch_size):
            images, labels = zip(*(photos[i] for i in planned.indices), strict=True)
            yield stack_batch(
                images,
                labels,
                planned.indices,
                planned.bucket,
                eval_config,
                len(planned.indices),
            )

    return read


@pytest.fixture(scope="session")
def pad_photo():
    """(image, config.eval, shape) → a batch of it, padded to another shape."""

    def pad(image, eval_config, shape):
        sizes = (view_sizes(s, eval_config) for s in (image.shape[:2], shape))
        view_shapes = tuple(np.max(pair, axis=0) for pair in zip(*sizes, strict=True))
        bucket = Bucket(shape, view_shapes, is_padded=True)
        return stack_batch([image], None, [0], bucket, eval_config, 1)

    return pad
