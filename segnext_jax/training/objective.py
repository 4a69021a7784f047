"""What a train step needs to know of what is trained, and that of segmentation.

Without evaluation and pictures, whose libraries a machine may lack that only trains.
"""

from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from segnext_jax.models.segnext import Variables, make_model
from segnext_jax.ops.cross_entropy import is_whole_factor
from segnext_jax.ops.resize import resize_bilinear
from segnext_jax.training.augment import augment
from segnext_jax.training.losses import make_enlarged_loss, make_loss

Batch = dict[str, jax.Array]


class Objective(Protocol):
    """A network and how it learns."""

    @property
    def model(self) -> nn.Module:
        """Called as model(image, train=…), with `batch_stats`."""

    @property
    def example(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of what the pipeline makes, without those of the batch."""

    def augment(self, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """A batch of the pipeline → image [b h w 3] float32 and target [b …]."""

    def forward(
        self,
        variables: Variables,
        image: jax.Array,
        rngs: dict[str, jax.Array],
        axis_name: str | None = None,
    ) -> tuple[jax.Array, Any]:
        """Logits to train with, as `loss` takes them, and the new `batch_stats`.

        `axis_name` is that of the devices that share the rows of the images.
        """

    def loss(self, logits: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Sums (total, weight): over any split of a batch the loss is their ratio."""


class SegmentationObjective:
    """SegNeXt on labelled pixels: the loss of its logits at image size.

    If the loss can enlarge them itself, `forward` returns them as they are.
    """

    def __init__(self, config: ConfigDict, num_classes: int):
        self.model = make_model(config.model, num_classes)
        self._config = config
        self._num_classes = num_classes
        self._loss = make_loss(config.loss, num_classes)
        self._enlarged_loss = make_enlarged_loss(config.loss, num_classes)

    @property
    def example(self) -> dict[str, jax.ShapeDtypeStruct]:
        h, w = self._config.data.crop_size
        return {
            "image": jax.ShapeDtypeStruct((h, w, 3), jnp.uint8),
            "label": jax.ShapeDtypeStruct((h, w), jnp.uint8),
            "size": jax.ShapeDtypeStruct((2,), jnp.int32),
            "unreadable": jax.ShapeDtypeStruct((), jnp.int32),
        }

    def augment(self, batch: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return augment(batch, key, self._config.augment)

    def forward(
        self,
        variables: Variables,
        image: jax.Array,
        rngs: dict[str, jax.Array],
        axis_name: str | None = None,
    ) -> tuple[jax.Array, Any]:
        config = self._config
        model = make_model(
            config.model, self._num_classes, remat=config.remat, axis_name=axis_name
        )
        logits, updated = model.apply(
            variables, image, train=True, rngs=rngs, mutable=["batch_stats"]
        )
        # Rows on several devices would need those of their neighbours.
        is_whole = axis_name is None and is_whole_factor(logits.shape, image.shape[:3])
        if self._enlarged_loss is None or not is_whole:
            logits = resize_bilinear(logits, image.shape[1:3], axis_name)
        return logits, updated["batch_stats"]

    def loss(self, logits: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
        if logits.shape[:3] != target.shape:
            assert self._enlarged_loss is not None
            return self._enlarged_loss(logits, target)
        return self._loss(logits, target)
