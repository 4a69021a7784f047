"""The gate lets through what computes the same, and says how far off the rest is."""

import jax.numpy as jnp
import numpy as np
import pytest

from segnext_jax.export.gate import Figures, compare

NUM_CLASSES = 3
PERFECT = Figures(2, 1.0, 0.0, 0.5, 0.5)


def native(image):
    """Logits that know the class from the red channel, and are clear about it."""
    return 4.0 * (image[..., :1] % NUM_CLASSES == jnp.arange(NUM_CLASSES))


def draw_samples(count=2, size=(20, 30)):
    rng = np.random.default_rng(0)
    for i in range(count):
        image = rng.integers(0, 255, (*size, 3), np.uint8)
        label = (image[..., 0] % NUM_CLASSES).astype(np.uint8)
        label[:2] = 255
        yield f"image {i}", image, label


def run_comparison(run, result="logits", samples=None):
    samples = draw_samples() if samples is None else samples
    return compare(run, native, samples, result, NUM_CLASSES)


def test_the_network_itself_passes():
    figures = run_comparison(lambda image: np.asarray(native(image)))
    assert figures == Figures(2, 1.0, 0.0, 1.0, 1.0)
    assert figures.failures() == []


def test_wrong_pixels_are_counted():
    def run(image):
        logits = np.array(native(image))
        logits[0, -1, :12] = logits[0, -1, :12, [1, 2, 0]].T  # of 600 pixels
        return logits

    figures = run_comparison(run)
    assert figures.equal_pixels == pytest.approx(1 - 12 / 600)
    assert figures.max_difference == 4.0
    assert figures.native_miou == 1.0
    assert 0.9 < figures.miou < 0.99
    pixels, values, miou = figures.failures()
    assert "98.0000 % of the pixels get the same class, 99.99 % must" in pixels
    assert "values differ by up to 4, 0.001 is the limit" in values
    assert "instead of 100.000 %, 0.01 points is the limit" in miou


def test_classes_have_no_difference():
    figures = run_comparison(
        lambda image: np.argmax(native(image), -1).astype(np.uint8), "classes"
    )
    assert figures == PERFECT._replace(max_difference=None, miou=1.0, native_miou=1.0)


def test_photos_without_labels_have_no_miou():
    samples = ((name, image, None) for name, image, _ in draw_samples())
    figures = run_comparison(lambda x: np.asarray(native(x)) + 5e-4, samples=samples)
    assert figures.miou is None and figures.native_miou is None
    assert figures.max_difference == pytest.approx(5e-4, rel=1e-3)
    assert figures.failures() == []


def test_nan_is_refused():
    def run(image):
        logits = np.array(native(image))
        logits[0, 5, 5, 0] = np.nan
        return logits

    assert any("differ by up to nan" in f for f in run_comparison(run).failures())


@pytest.mark.parametrize(
    ("figures", "is_good"),
    [
        (PERFECT, True),
        (PERFECT._replace(equal_pixels=0.99991), True),
        (PERFECT._replace(equal_pixels=0.99989), False),
        (PERFECT._replace(max_difference=9e-4), True),
        (PERFECT._replace(max_difference=1.1e-3), False),
        (PERFECT._replace(miou=0.50009), True),
        (PERFECT._replace(miou=0.50011), False),
        (PERFECT._replace(miou=0.49989), False),
    ],
)
def test_limits(figures, is_good):
    assert (figures.failures() == []) == is_good


def test_other_shapes_and_dtypes_are_named():
    with pytest.raises(ValueError, match=r"image 0: .*float64 \(1, 20, 30, 3\)"):
        run_comparison(lambda image: np.asarray(native(image), np.float64))
    with pytest.raises(ValueError, match=r"returns float32 \(1, 10, 30, 3\)"):
        run_comparison(lambda image: np.asarray(native(image))[:, ::2])
