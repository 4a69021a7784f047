"""Classification as a task: every image has a class, scored by the top-1 accuracy."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segnext_jax.evaluation.evaluator import ClassificationEvaluator
from segnext_jax.evaluation.metrics import TopK
from segnext_jax.models.classifier import make_classifier
from segnext_jax.models.segnext import Variables
from segnext_jax.ops.normalize import normalize
from segnext_jax.parallel.mesh import check_batch_size
from segnext_jax.training.erasing import erase
from segnext_jax.training.losses import soft_cross_entropy
from segnext_jax.training.mixing import mix


class Classification:
    """The backbone and a linear layer on labelled images. Implements `task.Task`."""

    score = "top1"

    def __init__(self, config: ConfigDict, classes: Sequence[str]):
        self.model = make_classifier(config.model, len(classes))
        self._config = config
        self._num_classes = len(classes)

    @property
    def example(self) -> dict[str, jax.ShapeDtypeStruct]:
        h, w = self._config.data.crop_size
        return {
            "image": jax.ShapeDtypeStruct((h, w, 3), jnp.uint8),
            "label": jax.ShapeDtypeStruct((), jnp.int32),
            "unreadable": jax.ShapeDtypeStruct((), jnp.int32),
        }

    def augment(
        self, batch: dict[str, jax.Array], key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The end of timm's augmentations: flip, mix, normalise, erase.

        Args:
          batch: `image` [b h w 3] uint8 RGB, `label` [b] int32.
          key: PRNG key of this step; example i uses `fold_in(…, i)`.

        Returns:
          image [b h w 3] float32, normalised; target [b c], probabilities.
        """
        config = self._config
        mix_key, key = jax.random.split(key)
        image = batch["image"]
        keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(key, i)))(
            jnp.arange(len(image))
        )
        flip = jax.vmap(
            partial(jax.random.bernoulli, p=config.augment.flip_probability)
        )(keys[:, 0])
        image = jnp.where(flip[:, None, None, None], image[:, :, ::-1], image)
        label = jax.nn.one_hot(batch["label"], self._num_classes)
        image, target = mix(
            image,
            optax.smooth_labels(label, config.loss.label_smoothing),
            mix_key,
            mixup_alpha=config.augment.mixup_alpha,
            cutmix_alpha=config.augment.cutmix_alpha,
        )
        image = erase(normalize(image), keys[:, 1], config.augment.erase_probability)
        return image, target

    def forward(
        self,
        variables: Variables,
        image: jax.Array,
        rngs: dict[str, jax.Array],
        axis_name: str | None = None,
    ) -> tuple[jax.Array, Any]:
        if axis_name is not None:
            raise ValueError(
                "config.mesh.spatial splits the rows of images to segment: set it to 1 "
                "to classify them"
            )
        config = self._config
        model = make_classifier(config.model, self._num_classes, remat=config.remat)
        logits, updated = model.apply(
            variables, image, train=True, rngs=rngs, mutable=["batch_stats"]
        )
        return logits, updated["batch_stats"]

    def loss(self, logits: jax.Array, target: jax.Array):
        return soft_cross_entropy(logits, target)

    def make_evaluator(self, mesh: Mesh) -> ClassificationEvaluator:
        batch_size = self._config.eval.batch_size
        check_batch_size("config.eval.batch_size", batch_size, mesh)
        return ClassificationEvaluator(self.model, mesh)

    def metrics(self, evaluation: TopK) -> dict[str, Any]:
        return evaluation.compute()

    def summary(self, evaluation: TopK) -> str:
        scores = evaluation.compute()
        return (
            f"top-1 {100 * scores['top1']:.2f} %, top-5 {100 * scores['top5']:.2f} % "
            f"on {evaluation.num_images} images"
        )

    def details(self, evaluation: TopK) -> str:
        return self.summary(evaluation)

    def panels(self, evaluation: TopK) -> list[np.ndarray]:
        return []

    def sections(self, evaluation: TopK) -> list[str]:
        return []

    def save_files(self, folder: epath.Path, evaluation: TopK) -> None:
        """Nothing: the scores are all there is to see."""
