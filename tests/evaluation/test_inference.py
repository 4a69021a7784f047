"""Whole, slide, flip, scales: against plain loops; padded as without padding.

tests/evaluation/test_inference_parity.py compares with the peers themselves.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_segnext import NUM_CLASSES

from data.evaluation import make_views
from segnext_jax.evaluation.inference import predict_image, score_image
from segnext_jax.evaluation.protocol import Protocol
from segnext_jax.ops.normalize import normalize
from segnext_jax.ops.resize import resize_bilinear

SIZE = (43, 70)
# Windows shift back at the end of both axes; the crop is higher than the second image.
SLIDE = Protocol(mode="slide", crop_size=(32, 40), stride=(20, 24))


@pytest.fixture(scope="module")
def logits_of(tiny):
    """Image [h w 3], 0…255 → logits [h w c] at its size; one compilation a size."""
    model, variables = tiny
    apply = jax.jit(partial(model.apply, train=False))

    def logits_of(image):
        logits = apply(variables, normalize(jnp.asarray(image)[None]))
        return np.asarray(resize_bilinear(logits, image.shape[:2]))[0]

    return logits_of


@pytest.fixture(scope="module")
def scores_of(tiny):
    """Image [h w 3], config.eval, protocol → score_image [h w c]."""
    model, variables = tiny

    def scores_of(image, eval_config, protocol):
        views = [view[None] for view in make_views(image, eval_config)]
        score = jax.jit(
            partial(score_image, model, shape=image.shape[:2]),
            static_argnames="protocol",
        )
        return np.asarray(score(variables, views, protocol=protocol))[0]

    return scores_of


def assert_close(actual, expected):
    """Within 1e-5 of the largest magnitude."""
    atol = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def test_whole_image_is_one_forward_pass(scores_of, logits_of, make_photo, eval_config):
    image, _ = make_photo(0, SIZE)
    assert_close(scores_of(image, eval_config, Protocol()), logits_of(image))


@pytest.mark.parametrize("size", [SIZE, (28, 70), (32, 40)])
def test_slide_equals_a_loop_over_windows(
    scores_of, logits_of, make_photo, eval_config, size
):
    image, _ = make_photo(0, size)
    total, count = 0, np.zeros((*size, 1))
    for y in {43: (0, 11), 28: (0,), 32: (0,)}[size[0]]:
        for x in {70: (0, 24, 30), 40: (0,)}[size[1]]:
            window = np.s_[y : y + 32, x : x + 40]
            part = np.zeros((*size, NUM_CLASSES))
            part[window] = logits_of(image[window])
            total, count[window] = total + part, count[window] + 1
    assert_close(scores_of(image, eval_config, SLIDE), total / count)


def test_views_and_mirror_images_are_summed(
    scores_of, logits_of, make_photo, eval_config
):
    eval_config.scales = (0.5, 1.0)
    image, _ = make_photo(0, SIZE)
    logits = []
    for view in make_views(image, eval_config):
        for step in (1, -1):
            enlarged = resize_bilinear(
                jnp.asarray(logits_of(view[:, ::step])[None, :, ::step]), SIZE
            )
            logits.append(np.asarray(enlarged)[0])
    for average, expected in (
        ("logits", sum(logits)),
        ("probabilities", sum(map(softmax, logits))),
    ):
        protocol = Protocol(flip=True, average=average)
        assert_close(scores_of(image, eval_config, protocol), expected)


def test_padding_to_multiples_counts_as_image(
    scores_of, logits_of, make_photo, eval_config
):
    """Of the mean colour, which is 0 once normalised."""
    image, _ = make_photo(0, SIZE)
    mean = np.array([123.675, 116.28, 103.53], np.float32)
    padded = np.tile(mean, (64, 96, 1))
    padded[: SIZE[0], : SIZE[1]] = image
    expected = logits_of(padded)[: SIZE[0], : SIZE[1]]
    assert_close(scores_of(image, eval_config, Protocol(pad_divisor=32)), expected)


@pytest.mark.parametrize(
    ("size", "options", "protocol"),
    [
        (SIZE, {}, Protocol()),
        (SIZE, {}, SLIDE),
        ((25, 33), {}, SLIDE._replace(pad_divisor=16)),  # smaller than a window
        (SIZE, dict(scales=(0.75, 1.25)), Protocol(flip=True)),
        (SIZE, dict(resize_to=(50, 90), size_divisor=8), Protocol(average="logits")),
    ],
    ids=["whole", "slide", "slide, pad_divisor", "scales and flip", "resized"],
)
def test_padded_image_has_the_scores_it_has_alone(
    tiny, scores_of, make_photo, pad_photo, eval_config, size, options, protocol
):
    model, variables = tiny
    eval_config.update(options)
    image, _ = make_photo(0, size)
    shape = (56, 83)
    batch = pad_photo(image, eval_config, shape)
    score = jax.jit(partial(score_image, model, shape=shape, protocol=protocol))
    actual = score(
        variables, batch["views"], size=batch["size"], view_sizes=batch["view_sizes"]
    )
    expected = scores_of(image, eval_config, protocol)
    assert_close(actual[0, : size[0], : size[1]], expected)


def test_prediction_is_the_class_of_the_highest_score(
    tiny, scores_of, make_photo, eval_config
):
    model, variables = tiny
    image, _ = make_photo(0, SIZE)
    pred = jax.jit(partial(predict_image, model, shape=SIZE, protocol=Protocol()))(
        variables, [image[None]]
    )
    assert pred.dtype == jnp.uint8 and pred.shape == (1, *SIZE)
    scores = scores_of(image, eval_config, Protocol())
    assert len(np.unique(pred)) > 1
    best = np.take_along_axis(scores, np.asarray(pred)[0, ..., None], axis=-1)
    np.testing.assert_allclose(best[..., 0], scores.max(axis=-1), rtol=1e-5)


def test_key_draws_other_bases_for_every_view(tiny, make_photo):
    model, variables = tiny
    image, _ = make_photo(0, SIZE)

    @jax.jit
    def scores(views, seed):
        key = jax.random.key(seed)
        protocol = Protocol(average="logits")
        return score_image(model, variables, views, SIZE, protocol, key=key)

    once = scores([image[None]], 0)
    np.testing.assert_array_equal(once, scores([image[None]], 0))
    assert abs(once - scores([image[None]], 1)).max() > 1e-3
    # The same bases would give twice the same.
    assert abs(scores([image[None]] * 2, 0) - 2 * once).max() > 1e-3
