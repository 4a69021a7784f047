"""Colour distortion, and the whole augmentation, against both peers on given draws.

The goldens are written by `python -m tools.golden`.
"""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from data import transforms
from data.transforms import CropRecipe
from segnext_jax.ops.normalize import STDDEV
from segnext_jax.training import distortion
from segnext_jax.training.augment import augment

GOLDEN = Path(__file__).parent / "golden"
PEERS = {
    name: dict(np.load(GOLDEN / f"augment_{name}.npz")) for name in ("mmseg", "paddle")
}
DISTORTIONS = {"mmseg": "photometric", "paddle": "paddle"}
DRAW = {"mmseg": distortion.draw_photometric, "paddle": distortion.draw_paddle}
APPLY = {"mmseg": distortion.apply_photometric, "paddle": distortion.apply_paddle}
# The suite compiles without optimisation (conftest.py), training with: where the sum of
# a product is then rounded once, results must not change.
OPTIMISED = {
    "xla_backend_optimization_level": 3,
    "xla_llvm_disable_expensive_passes": False,
}
COMPILED = {
    (peer, is_optimised): jax.jit(
        apply, compiler_options=OPTIMISED if is_optimised else None
    )
    for peer, apply in APPLY.items()
    for is_optimised in (False, True)
}
CASES = [
    (peer, key.removesuffix("/coins"))
    for peer, golden in PEERS.items()
    for key in golden
    if key.endswith("/coins")
]
# Of one image of many colours; of the scene, through every step.
COLOURS = [(peer, case) for peer, case in CASES if not case.startswith("whole/")]
WHOLE = [(peer, case) for peer, case in CASES if case.startswith("whole/")]


def draw_of(peer, case):
    """With the dtypes that JAX draws."""
    like = jax.eval_shape(DRAW[peer], jax.random.key(0))
    golden = {name: PEERS[peer][f"{case}/{name}"] for name in like._fields}
    return jax.tree.map(
        lambda x, y: jnp.asarray(y, x.dtype), like, type(like)(**golden)
    )


def planes(image):
    return jnp.moveaxis(jnp.asarray(image, jnp.float32), -1, 0)


@pytest.mark.parametrize(
    ("peer", "prefix"), [("mmseg", "_opencv"), ("paddle", "_pillow")]
)
def test_conversions_are_the_peers(peer, prefix):
    golden = PEERS[peer]
    to_hsv, to_rgb = (getattr(distortion, prefix + end) for end in ("_hsv", "_rgb"))
    hsv = jnp.stack(jax.jit(to_hsv)(planes(golden["image"])), -1)
    np.testing.assert_array_equal(hsv, golden["hsv"])
    rgb = jnp.stack(jax.jit(to_rgb)(*planes(golden["hsv_in"])), -1)
    np.testing.assert_array_equal(rgb, golden["rgb"])


@pytest.mark.parametrize("is_optimised", [False, True])
@pytest.mark.parametrize(("peer", "case"), COLOURS)
def test_distortion_is_the_peers(peer, case, is_optimised):
    golden = PEERS[peer]
    draws = jax.tree.map(lambda x: x[None], draw_of(peer, case))
    actual = COMPILED[peer, is_optimised](golden["image"][None], draws)[0]
    np.testing.assert_array_equal(actual, golden[f"{case}/image"])


@pytest.mark.parametrize(("peer", "case"), WHOLE)
def test_what_enters_the_network_is_the_peers(monkeypatch, peer, case):
    """Scale, crop, pad, flip, distort, normalise; in grey levels."""
    scene, label = PEERS[peer]["scene"], PEERS[peer]["label"]
    golden = {
        name.removeprefix(f"{case}/"): x
        for name, x in PEERS[peer].items()
        if name.startswith(case)
    }
    recipe = CropRecipe(
        crop_size=tuple(golden["crop_size"]),
        resize_to=tuple(golden["resize_to"]),
        scale_range=(0.5, 2.0),
        scale_step=0.25 if peer == "paddle" else 0.0,
        max_class_ratio=float(golden["max_class_ratio"]),
        rare_classes=(),
        rare_class_probability=0.0,
        pad="before_crop" if peer == "paddle" else "after_distortion",
    )
    draws = np.append(golden["draws"], np.zeros(3))  # no rare class
    crop = transforms.place_crop(draws, label, recipe)
    batch = {
        "image": transforms.crop_image(scene, crop, recipe),
        "label": transforms.crop_label(label, crop, recipe),
        "size": transforms.valid_size(crop, recipe),
    }
    batch = {name: jnp.asarray(x)[None] for name, x in batch.items()}
    draw = draw_of(peer, case)
    monkeypatch.setattr(distortion, DRAW[peer].__name__, lambda key: draw)
    config = ConfigDict(
        {"flip_probability": float(golden["flip"]), "distortion": DISTORTIONS[peer]}
    )
    image, label = jax.jit(partial(augment, config=config))(batch, jax.random.key(0))
    np.testing.assert_array_equal(label[0], golden["label"])
    expected = golden["image"] * STDDEV
    np.testing.assert_allclose(image[0] * jnp.array(STDDEV), expected, atol=1e-4)
