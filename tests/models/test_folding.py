"""Folded networks compute what they are made from."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf
from tiny_segnext import draw_variables, make_tiny

from configs import common
from segnext_jax.models import mscan, segnext
from segnext_jax.models.folding import fold


def draw_image(size, dtype=np.float32):
    return np.random.default_rng(1).normal(0, 1, (2, *size, 3)).astype(dtype)


def test_exact_in_float64_up_to_the_borders(monkeypatch):
    # The network's own GELU computes in float32.
    monkeypatch.setattr(
        mscan, "gelu", lambda x: x * (0.5 + 0.5 * erf(x * np.sqrt(0.5)))
    )
    with jax.enable_x64(True):
        model = make_tiny(jnp.float64)
        variables = draw_variables(model, np.float64)
        native, folded = (
            jax.jit(partial(m.backbone.apply, train=False))(
                {name: tree["backbone"] for name, tree in v.items()},
                draw_image((45, 38), np.float64),
            )
            for m, v in ((model, variables), fold(model, variables))
        )
    for x, y in zip(native, folded, strict=True):
        assert x.dtype == y.dtype == np.float64
        np.testing.assert_allclose(y, x, rtol=0, atol=1e-12 * np.abs(x).max())


def test_no_norm_and_no_factor_of_a_branch_is_left():
    model = make_tiny()
    _, variables = fold(model, draw_variables(model))
    assert variables.keys() == {"params"}
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"]["backbone"])
    names = {key.key for path, _ in leaves for key in path}
    assert {n for n in names if "norm" in n} == {f"stage{i}_norm" for i in (1, 2, 3, 4)}
    assert not any("layer_scale" in name for name in names)
    assert all(x.dtype == np.float32 for _, x in leaves)


def test_variant_t_in_float32():
    config = common.cityscapes("T", "official").model
    config.dtype = "float32"
    config.depthwise = "xla"
    model = segnext.make_model(config, 19)
    variables = draw_variables(model)
    native, folded = (
        jax.jit(partial(m.apply, train=False))(v, draw_image((33, 47)))
        for m, v in ((model, variables), fold(model, variables))
    )
    np.testing.assert_allclose(folded, native, rtol=0, atol=1e-5 * np.abs(native).max())


def test_images_smaller_than_their_array():
    model = make_tiny()
    variables = draw_variables(model)
    sizes = np.array([(20, 33), (20, 33)], np.int32)
    native, folded = (
        jax.jit(partial(m.apply, train=False))(v, draw_image((48, 40)), size=sizes)
        for m, v in ((model, variables), fold(model, variables))
    )
    inside = np.s_[:, :3, :5]  # an eighth
    np.testing.assert_allclose(
        folded[inside], native[inside], rtol=0, atol=1e-5 * np.abs(native).max()
    )
