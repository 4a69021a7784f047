"""A small model against both peers: outputs, and ten steps of training."""

import golden_fill
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from segnext_jax.ops.resize import resize_bilinear
from segnext_jax.training.losses import cross_entropy
from segnext_jax.training.optimizer import make_optimizer, make_schedule
from segnext_jax.weights import convert, files
from segnext_jax.weights.naming import MMSEG


@pytest.fixture(scope="module")
def mmseg_variables(tiny_shapes):
    names = convert.foreign_shapes(tiny_shapes, MMSEG)
    tensors = {name: golden_fill.fill(name, shape) for name, shape in names.items()}
    return convert.adopt(tensors, tiny_shapes, MMSEG, origin="the rule").variables


@pytest.fixture(scope="module")
def paddle_variables(tiny_shapes, golden_folder):
    return files.read(str(golden_folder / "tiny.pdparams"), tiny_shapes).variables


@pytest.mark.parametrize("size", [(64, 96), (50, 67)])
@pytest.mark.parametrize("peer", ["mmseg", "paddleseg"])
def test_stages_and_logits_equal_the_peers(
    peer, size, tiny, mmseg_variables, paddle_variables, golden_folder, same_bases
):
    variables = {"mmseg": mmseg_variables, "paddleseg": paddle_variables}[peer]

    @jax.jit
    def forward(variables, image):
        def both(model, image):
            return model.backbone(image, train=False), model(image, train=False)

        return tiny.apply(variables, image, method=both)

    features, logits = forward(variables, jnp.asarray(golden_fill.image(1, *size)))
    outputs = {f"stage{i}": x for i, x in enumerate(features, 1)} | {"logits": logits}
    with np.load(golden_folder / f"{peer}.npz") as golden:
        for name, actual in outputs.items():
            expected = golden["{}x{}/{}".format(*size, name)]
            atol = 2e-5 * np.abs(expected).max()
            np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def test_ten_steps_follow_pytorch(tiny, mmseg_variables, golden_folder, same_bases):
    config = common.cityscapes("T", "official")
    config.schedule.peak = 2e-3
    config.schedule.warmup_steps = 3
    schedule = make_schedule(config.schedule, 10)
    tx = make_optimizer(config.optimizer, schedule)
    image = jnp.asarray(golden_fill.image(2, 64, 96))
    label = jnp.asarray(golden_fill.label(2, 64, 96), jnp.int32)

    def loss_fn(params, batch_stats):
        logits, updated = tiny.apply(
            {"params": params, "batch_stats": batch_stats},
            image,
            train=True,
            rngs={"nmf": jax.random.key(0)},
            mutable=["batch_stats"],
        )
        logits = resize_bilinear(logits, label.shape[1:])
        total, weight = cross_entropy(logits, label, normalizer="valid")
        return total / weight, updated["batch_stats"]

    @jax.jit
    def step(params, batch_stats, opt_state):
        (loss, batch_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            params, batch_stats
        )
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), batch_stats, opt_state, loss

    params, batch_stats = (mmseg_variables[k] for k in ("params", "batch_stats"))
    opt_state = tx.init(params)
    losses = []
    for _ in range(10):
        params, batch_stats, opt_state, loss = step(params, batch_stats, opt_state)
        losses.append(float(loss))

    with np.load(golden_folder / "mmseg.npz") as golden:
        np.testing.assert_allclose(losses, golden["steps/loss"], rtol=1e-3)
        rates = [schedule(i) for i in range(10)]
        # Exactly, up to float32; the first is 2e-9.
        np.testing.assert_allclose(rates, golden["steps/lr"], rtol=1e-6)
    assert losses[-1] < 0.8 * losses[0]
