"""The evaluator: counts that nothing but the images decides, and few compilations."""

import jax
import numpy as np
import pytest
from tiny_segnext import NUM_CLASSES

from data import evaluation as data_evaluation
from segnext_jax.evaluation.evaluator import SegmentationEvaluator
from segnext_jax.evaluation.metrics import Confusion
from segnext_jax.evaluation.protocol import Protocol
from segnext_jax.evaluation.segmenter import Segmenter
from segnext_jax.parallel.mesh import make_mesh

# Two buckets, one of a single size; more images than devices.
SIZES = [(43, 70), (40, 64), (43, 70), (64, 40), (40, 66), (43, 70), (38, 64), (62, 41)]
SIZES = [*SIZES, (43, 70), (40, 64), (64, 40)]
SLIDE = Protocol(mode="slide", crop_size=(32, 40), stride=(20, 24))


@pytest.fixture(scope="module")
def photos(make_photo):
    return [make_photo(i, size) for i, size in enumerate(SIZES)]


@pytest.fixture
def two_buckets(monkeypatch):
    monkeypatch.setattr(data_evaluation, "_MAX_BUCKETS", 2)


@pytest.fixture
def make_evaluator(tiny):
    def make(protocol=None, num_devices=1):
        mesh = make_mesh(jax.devices()[:num_devices])
        return SegmentationEvaluator(tiny[0], NUM_CLASSES, mesh, protocol)

    return make


def assert_same(actual, expected):
    np.testing.assert_array_equal(actual.confusion.counts, expected.confusion.counts)
    for name, values in vars(expected.images).items():
        np.testing.assert_array_equal(getattr(actual.images, name), values, name)


@pytest.mark.parametrize(
    ("options", "protocol"),
    [
        ({}, Protocol()),
        ({}, SLIDE),
        (dict(scales=(0.75, 1.25)), Protocol(flip=True)),
    ],
    ids=["whole", "slide", "scales and flip"],
)
def test_counts_depend_neither_on_batch_nor_on_devices(
    tiny,
    photos,
    read_photos,
    eval_config,
    make_evaluator,
    two_buckets,
    options,
    protocol,
):
    eval_config.update(options)
    evaluators = [make_evaluator(protocol, num_devices) for num_devices in (1, 8)]
    evaluations = [
        evaluate(tiny[1], read_photos(photos, eval_config, batch_size))
        for evaluate in evaluators
        for batch_size in (1, 3, 8)
    ]
    labelled = sum((label != 255).sum() for _, label in photos)
    assert evaluations[0].confusion.counts.sum() == labelled
    assert evaluations[0].num_images == len(SIZES)
    for evaluation in evaluations[1:]:
        assert_same(evaluation, evaluations[0])


def test_counts_are_those_of_the_predictions(
    tiny, photos, read_photos, eval_config, make_evaluator, two_buckets
):
    seen = {}

    def remember(index, image, label, pred):
        seen[index] = image, label, pred

    evaluation = make_evaluator(num_devices=3)(
        tiny[1],
        read_photos(photos, eval_config, 4),
        num_examples=2,
        on_image=remember,
    )
    assert sorted(seen) == list(range(len(SIZES)))
    total = np.zeros((NUM_CLASSES, NUM_CLASSES), int)
    for i, (image, label, pred) in sorted(seen.items()):
        np.testing.assert_array_equal(image, photos[i][0])
        np.testing.assert_array_equal(label, photos[i][1])
        assert pred.shape == label.shape and pred.dtype == np.uint8
        counts = np.zeros((NUM_CLASSES, NUM_CLASSES), int)
        np.add.at(counts, (label[label != 255], pred[label != 255]), 1)
        np.testing.assert_array_equal(
            evaluation.images.intersection[i], counts.diagonal()
        )
        np.testing.assert_array_equal(evaluation.images.labelled[i], counts.sum(1))
        np.testing.assert_array_equal(evaluation.images.predicted[i], counts.sum(0))
        total += counts
    np.testing.assert_array_equal(evaluation.confusion.counts, total)
    assert isinstance(evaluation.confusion, Confusion)
    assert len(evaluation.examples) == 2
    for example, i in zip(evaluation.examples, list(seen)[:2], strict=True):
        np.testing.assert_array_equal(example.pred, seen[i][2])


def test_segmenter_predicts_what_the_evaluator_counts(
    tiny, photos, read_photos, eval_config, make_evaluator, two_buckets
):
    model, variables = tiny
    predictions = {}
    make_evaluator(num_devices=2)(
        variables,
        read_photos(photos, eval_config, 3),
        on_image=lambda index, image, label, pred: predictions.update({index: pred}),
    )
    segment = Segmenter(model, Protocol(), make_mesh(jax.devices()[:2]))
    for batch in read_photos(photos, eval_config, 5):
        del batch["label"]
        shape = batch["views"][0].shape[1:3]
        pred = segment(variables, batch, shape)
        assert pred.shape == (len(batch["mask"]), *shape)
        for row, index in enumerate(batch["index"]):
            h, w = SIZES[index]
            np.testing.assert_array_equal(pred[row, :h, :w], predictions[index])


def test_images_at_another_size_are_shown_at_that_of_the_label(
    tiny, photos, read_photos, eval_config, make_evaluator
):
    eval_config.update(dict(scales=(0.5,), rescale="float32"))
    shown = []
    make_evaluator()(
        tiny[1],
        read_photos(photos[:1], eval_config, 1),
        on_image=lambda index, image, label, pred: shown.append(image),
    )
    assert shown[0].shape == (*SIZES[0], 3) and shown[0].dtype == np.uint8
    # Halved and enlarged again: the blocks of 8 remain, their noise does not.
    error = np.abs(shown[0].astype(float) - photos[0][0])
    assert 3 < error.mean() < 30


def test_draws_follow_from_the_key_and_the_image(
    tiny, photos, read_photos, eval_config, make_evaluator
):
    evaluators = [make_evaluator(num_devices=n) for n in (1, 4)]
    some = [photo for photo in photos if photo[1].shape == SIZES[0]]

    def evaluate(seed, batch_size, evaluator=0):
        return evaluators[evaluator](
            tiny[1],
            read_photos(some, eval_config, batch_size),
            key=jax.random.key(seed),
        )

    first = evaluate(0, 1)
    assert_same(evaluate(0, 3, evaluator=1), first)
    assert (evaluate(1, 1).confusion.counts != first.confusion.counts).any()
    # The same image at another index has other bases.
    twice = list(read_photos([some[0]] * 2, eval_config, 2))
    images = evaluators[0](tiny[1], twice, key=jax.random.key(0)).images
    assert (images.predicted[0] != images.predicted[1]).any()


def test_without_batches_nothing_is_counted(tiny, make_evaluator):
    evaluation = make_evaluator()(tiny[1], [])
    assert evaluation.num_images == 0 and not evaluation.confusion.counts.any()


def test_200_sizes_cost_few_compilations(
    tiny, make_photo, read_photos, eval_config, make_evaluator
):
    sizes = np.random.default_rng(0).integers(30, 200, (200, 2))
    photos = [make_photo(i, tuple(size)) for i, size in enumerate(sizes)]
    compilations = []

    def count(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compilations.append(duration)

    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        evaluation = make_evaluator(num_devices=8)(
            tiny[1], read_photos(photos, eval_config, 8)
        )
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert evaluation.num_images == 200
    assert 8 <= len(compilations) <= 12
