"""Draws what the network is shown in training, after everything random.

    python -m tools.browse_augmentations --config configs/camvid.py \
        --output augmentations.png [--images 16] [--step 0]

The examples come from the stream and the augmentation that train.py runs, with its
seeds: those of step s are what a run with this config sees after s updates.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow only reads files here

from collections.abc import Iterator
from itertools import islice

import jax
import numpy as np
import tensorflow as tf
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from data import pipeline
from data.sources import Source, make_source
from segnext_jax.ops.normalize import MEAN, STDDEV
from segnext_jax.training.step import step_keys
from segnext_jax.training.task import make_task
from segnext_jax.visual.console import name_misspelt_key, quiet_libraries
from segnext_jax.visual.examples import Example, save_examples


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    quiet_libraries()
    tf.config.set_visible_devices([], "GPU")  # else it takes the memory JAX needs
    options = flags.FLAGS
    try:
        browse(
            options.config,
            options.output,
            num_images=options.images,
            step=options.step,
            max_side=options.max_side,
        )
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    print(f"{options.output}: written.")


def browse(
    config: ConfigDict, path: str, *, num_images: int, step: int, max_side: int
) -> None:
    """Writes a mosaic of the first examples from a step on.

    Raises ValueError for a config of classification, OSError where `path` cannot be
    written, and what `make_source` and `train_stream` raise.
    """
    if config.task != "segmentation":
        raise ValueError(
            f"config.task is {config.task!r}: augmentations are drawn with their"
            " labels, which segmentation alone has"
        )
    source = make_source(config.data, config.data.train_split)
    examples = list(islice(augmented_examples(config, source, step), num_images))
    title = (
        f"Training examples of {config.data.source} / {config.data.train_split} as the"
        f" network sees them from step {step} on, seed {config.seed}"
    )
    classes = source.classes
    save_examples(
        path, examples, classes.names, classes.palette, title=title, max_side=max_side
    )


def augmented_examples(
    config: ConfigDict, source: Source, step: int
) -> Iterator[Example]:
    """Yields what the network trains on after `step` updates, one row after the other.

    Images are as the network gets them, brought back to grey levels 0…255: padding
    that it sees as 0 has the colour of the mean.
    """
    classes = source.classes
    augment = jax.jit(make_task(config, classes.names, classes.palette).augment)
    batches = pipeline.train_stream(
        source,
        config.data,
        seed=config.seed,
        batch_size=config.train.batch_size,
        start_step=step,
    )
    for number, batch in enumerate(batches, start=step):
        augment_key, _ = step_keys(config.seed, number)
        images, labels = map(np.asarray, augment(batch, augment_key))
        sizes = batch["size"].tolist()
        for row, (image, label, size) in enumerate(
            zip(images, labels, sizes, strict=True)
        ):
            caption = f"step {number}, example {row}"
            yield Example(_to_grey_levels(image), label, (size[0], size[1]), caption)


def _to_grey_levels(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image * STDDEV + MEAN), 0, 255).astype(np.uint8)


def _define_flags() -> None:
    # Not at import: the tests import several tools, and flags are of the process.
    config_flags.DEFINE_config_file(
        "config", None, "Recipe, e.g. configs/camvid.py; any key of it is a flag."
    )
    flags.DEFINE_string("output", None, "PNG file to write.", required=True)
    flags.DEFINE_integer("images", 16, "Examples to draw.", lower_bound=1)
    flags.DEFINE_integer("step", 0, "Updates before the first one.", lower_bound=0)
    flags.DEFINE_integer(
        "max_side", 512, "Larger images are shrunk to it; 0: never.", lower_bound=0
    )
    flags.mark_flag_as_required("config")


if __name__ == "__main__":
    _define_flags()
    app.run(main, flags_parser=name_misspelt_key(app.parse_flags_with_usage))
