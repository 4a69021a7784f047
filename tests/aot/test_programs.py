"""What is traced for a target is what runs there, not what suits this CPU."""

import jax
import pytest

from configs import common
from segnext_jax.aot.programs import lower
from segnext_jax.models import segnext
from segnext_jax.parallel.mesh import make_mesh

NUM_CLASSES = 5
CHANNELS = 8  # of stage 1


@pytest.fixture
def config(monkeypatch):
    tiny = segnext.Variant((CHANNELS, 16, 24, 32), (1, 1, 1, 1), 32, 4)
    monkeypatch.setitem(segnext.VARIANTS, "tiny", tiny)
    config = common.base()
    config.model.variant = "tiny"
    config.data.crop_size = (64, 64)
    config.train.batch_size = 4
    return config


def _text(program, config, platform):
    mesh = make_mesh(jax.devices()[:4], data=2, spatial=2)
    lowered = lower(
        program, config, NUM_CLASSES, mesh, platform=platform, eval_size=(64, 128)
    )
    return lowered.as_text()


def test_the_train_step_takes_the_depthwise_convolution_of_the_target(config):
    grouped = f"feature_group_count = {CHANNELS} : i64"
    kernel = "CustomSPMDPartitioning"
    text = _text("train", config, "gpu")
    assert kernel in text
    assert grouped not in text
    text = _text("train", config, "tpu")
    assert kernel not in text
    assert grouped not in text
    config.model.depthwise = "xla"
    assert grouped in _text("train", config, "gpu")
    assert "4x64x64x3xui8" in text, "the global batch of crops"


def test_the_evaluation_gives_every_device_an_image(config):
    on_cpu, on_tpu = (_text("eval", config, platform) for platform in ("cpu", "tpu"))
    assert "4x64x128x3xui8" in on_tpu
    # On a CPU the enlarged logits are made by strips, never as a whole.
    enlarged = f"64x128x{NUM_CLASSES}xf32>"
    assert enlarged in on_tpu
    assert enlarged not in on_cpu


def test_the_default_platform_is_put_back(config):
    _text("eval", config, "tpu")
    assert jax.default_backend() == "cpu"


def test_only_segmentation_is_evaluated_so():
    config = common.base("classification")
    with pytest.raises(ValueError, match=r"classification.*--program train"):
        lower(
            "eval",
            config,
            NUM_CLASSES,
            make_mesh(jax.devices()[:1]),
            platform="tpu",
            eval_size=(64, 64),
        )
