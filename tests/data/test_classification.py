"""Both streams of classification, on the small ImageNet and on images in memory."""

import itertools

import numpy as np
import pytest
from tiny_imagenet import encode, paint

from data import classification, randaugment, resized_crop
from data.decode import decode_image
from data.sources import LabelledImage
from data.sources.imagenet import ImageNet


class InMemory(list):
    """Seven images of three classes; a test may change them."""

    classes = ("a", "b", "c")


@pytest.fixture
def source():
    rng = np.random.default_rng(0)
    images = [encode(paint(rng, i / 7)) for i in range(7)]
    return InMemory(LabelledImage(f"{i}.JPEG", x, i % 3) for i, x in enumerate(images))


def spoil(source, index):
    source[index] = source[index]._replace(image=source[index].image[:60])


def label_of(source, index, label):
    source[index] = source[index]._replace(label=label)


def take(source, data_config, steps, *, seed=0, batch_size=4, **options):
    stream = classification.train_stream(
        source, data_config, seed=seed, batch_size=batch_size, **options
    )
    return list(itertools.islice(stream, steps))


def evaluate(source, data_config, **options):
    return list(classification.eval_batches(source, data_config, **options))


def assert_same(actual, expected):
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def join(shards):
    return [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*shards, strict=True)
    ]


def test_shapes_and_types(imagenet_root, classification_config):
    source = ImageNet(str(imagenet_root), "train")
    (batch,) = take(source, classification_config, 1)
    assert {key: (x.dtype.name, x.shape) for key, x in batch.items()} == {
        "image": ("uint8", (4, 24, 32, 3)),
        "label": ("int32", (4,)),
        "unreadable": ("int32", (4,)),
    }
    (batch, _) = evaluate(source, classification_config, batch_size=6)
    assert {key: (x.dtype.name, x.shape) for key, x in batch.items()} == {
        "image": ("uint8", (6, 24, 32, 3)),
        "label": ("int32", (6,)),
        "mask": ("bool", (6,)),
    }


def test_any_step_can_be_the_first(source, classification_config):
    steps = take(source, classification_config, 6)
    assert_same(take(source, classification_config, 6), steps)
    assert_same(take(source, classification_config, 2, start_step=4), steps[4:])


@pytest.mark.parametrize("shard_count", [2, 4])
def test_global_batch_does_not_depend_on_shards(
    source, classification_config, shard_count
):
    shards = [
        take(source, classification_config, 3, shard_index=i, shard_count=shard_count)
        for i in range(shard_count)
    ]
    assert_same(join(shards), take(source, classification_config, 3))


def test_seeds_differ_in_order_and_in_crops(source, classification_config):
    classification_config.randaugment_ops = 0
    first, second = (take(source, classification_config, 7, seed=s) for s in (0, 1))
    assert any(
        (a["label"] != b["label"]).any() for a, b in zip(first, second, strict=True)
    )
    del source[1:]
    one, other = take(source, classification_config, 2, batch_size=1)
    assert (one["image"] != other["image"]).any()


def test_every_epoch_visits_every_record_once(source, classification_config):
    for i in range(7):
        label_of(source, i, i)
    source.classes = "abcdefg"
    steps = take(source, classification_config, 7)
    labels = np.concatenate([b["label"] for b in steps]).reshape(4, 7)
    np.testing.assert_array_equal(np.sort(labels), [range(7)] * 4)
    assert len({tuple(epoch) for epoch in labels}) == 4


def test_image_is_cut_then_augmented(source, classification_config):
    recipe = resized_crop.ResizedCropRecipe.from_config(classification_config)
    augmentation = randaugment.RandAugmentRecipe.from_config(classification_config)
    del source[1:]
    image = decode_image(source[0].image, "")
    (batch,) = take(source, classification_config, 1, seed=3, batch_size=16)
    for k in range(16):
        window = resized_crop.draw_window(image.shape[:2], recipe, 3, k)
        crop = resized_crop.crop_window(image, window, recipe)
        crop = randaugment.apply(crop, randaugment.draw(augmentation, 3, k))
        np.testing.assert_array_equal(batch["image"][k], np.asarray(crop))


def test_unreadable_image_stops(source, classification_config):
    spoil(source, 4)
    with pytest.raises(ValueError, match=r"4\.JPEG: not a readable.*on_unreadable"):
        take(source, classification_config, 2)


def test_unreadable_image_is_replaced(source, classification_config):
    classification_config.on_unreadable = "skip"
    before = take(source, classification_config, 1, batch_size=7)[0]["label"]
    spoil(source, 4)
    (batch,) = take(source, classification_config, 1, batch_size=7)
    (place,) = np.flatnonzero(batch["unreadable"])
    assert batch["unreadable"].sum() == 1 and before[place] == 4 % 3
    assert batch["label"][place] == before[(place + 1) % 7]


@pytest.mark.parametrize("label", [-1, 3])
def test_label_outside_the_classes_is_named(source, classification_config, label):
    classification_config.on_unreadable = "skip"  # must not skip this
    label_of(source, 5, label)
    message = rf"5\.JPEG: label {label} is outside the 3 classes; legal are 0\.\.2"
    with pytest.raises(ValueError, match=message):
        take(source, classification_config, 2)
    with pytest.raises(ValueError, match=message):
        evaluate(source, classification_config, batch_size=7)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crop_size", (24, 0)),
        ("randaugment_std", -1.0),
        ("on_unreadable", "ignore"),
    ],
)
def test_senseless_values_are_refused_at_once(
    source, classification_config, key, value
):
    classification_config[key] = value
    with pytest.raises(ValueError, match=rf"config\.data\.{key} = "):
        classification.train_stream(source, classification_config, seed=0, batch_size=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"batch_size": 6, "shard_count": 4}, "batch_size 6 .*multiple of the 4"),
        ({"shard_index": 2, "shard_count": 2}, r"shard_index 2 is not in \[0, 2\)"),
    ],
)
def test_bad_arguments_are_refused_at_once(
    source, classification_config, options, message
):
    options = {"batch_size": 4} | options
    with pytest.raises(ValueError, match=message):
        classification.eval_batches(source, classification_config, **options)
    with pytest.raises(ValueError, match=message):
        classification.train_stream(source, classification_config, seed=0, **options)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 12])
def test_evaluation_has_every_image_once_and_in_order(
    source, classification_config, batch_size
):
    batches = evaluate(source, classification_config, batch_size=batch_size)
    assert len(batches) == -(-7 // batch_size)
    recipe = resized_crop.ResizedCropRecipe.from_config(classification_config)
    (joined,) = join([[batch] for batch in batches])
    assert joined["mask"].tolist() == [True] * 7 + [False] * (len(joined["mask"]) - 7)
    for i, record in enumerate(source):
        centre = resized_crop.crop_centre(decode_image(record.image, ""), recipe)
        np.testing.assert_array_equal(joined["image"][i], np.asarray(centre))
        assert joined["label"][i] == record.label
    assert not joined["image"][7:].any() and not joined["label"][7:].any()


@pytest.mark.parametrize("batch_size", [3, 6, 9, 21])
def test_three_shards_share_the_images(source, classification_config, batch_size):
    shards = [
        evaluate(
            source,
            classification_config,
            batch_size=batch_size,
            shard_index=i,
            shard_count=3,
        )
        for i in range(3)
    ]
    whole = evaluate(source, classification_config, batch_size=batch_size)
    assert_same(join(shards), whole)
    assert sum(batch["mask"].sum() for shard in shards for batch in shard) == 7


def test_unreadable_image_always_stops_evaluation(source, classification_config):
    classification_config.on_unreadable = "skip"
    spoil(source, 4)
    batches = classification.eval_batches(source, classification_config, batch_size=3)
    assert next(batches)["mask"].all()
    with pytest.raises(ValueError, match=r"4\.JPEG: not a readable image"):
        next(batches)
