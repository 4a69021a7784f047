"""Every recipe builds, has the published numbers, and adds no key."""

import importlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict, config_flags

from configs import common
from data.sources import source_classes
from segnext_jax.models.segnext import make_model
from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.training.loop import check_run
from segnext_jax.training.optimizer import groups, make_optimizer, make_schedule
from segnext_jax.training.task import make_task
from segnext_jax.weights import convert

ROOT = Path(__file__).parents[1]
VARIANTS = ("T", "S", "B", "L")
RECIPES = ("paddle", "official")
# What takes a variant, with the number of its classes.
DATASETS = {
    "ade20k": 150,
    "coco_stuff": 171,
    "folder": 2,
    "isaid": 16,
    "loveda": 7,
    "pascal_context": 60,
    "voc2012": 21,
}


def all_recipes() -> Iterator[str]:
    """What can stand after --config: paths, with each recipe where there are two."""
    for path in sorted(ROOT.glob("configs/*.py")):
        if hasattr(_module(path), "get_config"):
            arguments = [""]
            if path.stem.startswith("mscan_"):
                arguments = [f":{recipe}" for recipe in RECIPES]
            elif path.stem in DATASETS:
                arguments = [":t", ":l"]
            yield from (f"configs/{path.name}{argument}" for argument in arguments)


def load(recipe: str) -> ConfigDict:
    path, *argument = recipe.split(":")
    return _module(Path(path)).get_config(*argument)


def _module(path: Path):
    return importlib.import_module(f"configs.{path.stem}")


every_recipe = pytest.mark.parametrize("recipe", list(all_recipes()))


@every_recipe
def test_recipe_builds(recipe):
    config = load(recipe)
    check_run(config, make_mesh(jax.devices()[:1]))
    task = make_task(config, [f"class {i}" for i in range(19)], [[0, 0, 0]] * 19)
    schedule = make_schedule(config.schedule, config.train.num_train_steps)
    tx = make_optimizer(config.optimizer, schedule)
    weights = {"stem": {"norm": {"scale": jnp.ones(2)}}}
    state = tx.init({"backbone": weights, "decoder": weights})

    assert task.model.backbone.embed_dims[0] in (32, 64)
    assert jax.tree.leaves(state)
    end = schedule(config.train.num_train_steps)
    assert end == pytest.approx(config.schedule.end, rel=1e-5)
    assert schedule(0) < 0.1 * config.schedule.peak


@pytest.mark.parametrize("recipe", RECIPES)
def test_tiny_has_the_published_size(recipe):
    model = make_model(common.cityscapes("T", recipe).model, 19)
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    params = jax.eval_shape(
        lambda image: model.init(jax.random.key(0), image, train=False), image
    )["params"]
    assert sum(x.size for x in jax.tree.leaves(params)) == pytest.approx(
        4.230e6, abs=500
    )
    # As many as in the peers, where no blocks are stacked.
    names = jax.tree.map(
        lambda p, group: np.broadcast_to(group, p.shape), params, groups(params)
    )
    flat = convert.flatten({"params": names, "batch_stats": {}})
    sizes = Counter(str(name.flat[0]) for name in flat.values())
    assert sizes == {"head": 13, "norm": 66, "other": 378}


@every_recipe
def test_recipe_adds_no_key(recipe):
    config = load(recipe)
    base = common.base(config.task)
    keys, base_keys = (flatten_dict(x.to_dict()).keys() for x in (config, base))
    assert keys == base_keys


@every_recipe
@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("modle.variant=S", 'Did you mean "model" instead of "modle"'),
        ("model.varient=S", 'Did you mean "variant" instead of "varient"'),
    ],
    ids=["section", "key"],
)
def test_misspelt_override_names_the_key(recipe, override, hint, monkeypatch):
    with pytest.raises((KeyError, AttributeError), match=hint):
        parse(monkeypatch, f"--config={ROOT / recipe}", f"--config.{override}")


def test_override_reaches_the_config(monkeypatch):
    recipe = f"--config={ROOT}/configs/mscan_b.py:official"
    config = parse(monkeypatch, recipe, "--config.data.crop_size=(512, 768)")
    assert config.data.crop_size == (512, 768)
    assert config.model.decoder == "official"


def parse(monkeypatch, *arguments: str) -> ConfigDict:
    """The config that train.py would have from these arguments."""
    argv = ["train.py", *arguments]
    monkeypatch.setattr("sys.argv", argv)  # where ml_collections looks for overrides
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    values(argv)
    return values.config


def test_unknown_recipe_is_named():
    with pytest.raises(ValueError, match="'authors'"):
        load("configs/mscan_s.py:authors")


# The published recipes: Guo et al. 2022 with the authors' configs (mmseg 0.24.1), and
# PaddleSeg 2.8.0, as 1024² on Cityscapes.


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_values_of_both_recipes(variant, recipe):
    config = common.cityscapes(variant, recipe)
    assert config.model.variant == variant
    assert config.model.drop_path_rate == (0.3 if variant == "L" else 0.1)
    assert config.model.dropout_rate == 0.1
    assert (config.model.nmf_train_steps, config.model.nmf_eval_steps) == (6, 7)
    assert config.model.nmf_gradient == "unrolled"
    assert config.data.crop_size == (1024, 1024)
    assert config.data.scale_range == (0.5, 2.0)
    assert config.data.max_class_ratio == 0.75
    assert config.augment.flip_probability == 0.5
    assert (config.optimizer.b1, config.optimizer.b2) == (0.9, 0.999)
    assert config.optimizer.eps == 1e-8
    assert config.optimizer.weight_decay == 0.01
    assert config.optimizer.clip_norm == 0
    assert config.schedule.power == 1
    assert config.schedule.warmup_steps == 1500
    assert config.schedule.warmup_start == 1e-6
    assert config.train.batch_size == 8
    assert config.train.num_train_steps == 160_000


@pytest.mark.parametrize("variant", VARIANTS)
def test_values_of_the_authors(variant):
    config = common.cityscapes(variant, "official")
    assert config.model.decoder == "official"
    assert config.loss.normalizer == "all"
    assert config.data.scale_step == 0
    assert config.data.pad == "after_distortion"
    assert config.augment.distortion == "photometric"
    assert config.schedule.peak == 6e-5
    assert config.optimizer.head_multiplier == 10
    assert config.optimizer.decay == "no_norm"
    # The warm-up ratio is multiplied onto a decay that runs from step 0.
    assert _learning_rate(config, 0) == pytest.approx(6e-11, rel=1e-5)
    assert _learning_rate(config, 80_000) == pytest.approx(3e-5, rel=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_values_of_paddleseg(variant):
    config = common.cityscapes(variant, "paddle")
    tiny = variant == "T"
    assert config.model.decoder == "paddle"
    assert config.loss.normalizer == "valid"
    assert config.data.scale_step == 0.25
    assert config.data.pad == "before_crop"
    assert config.augment.distortion == "paddle"
    assert config.schedule.peak == (6e-4 if tiny else 6e-5)
    assert config.optimizer.head_multiplier == (1 if tiny else 10)
    assert config.optimizer.decay == ("all" if tiny else "no_norm")
    # The warm-up ends at the peak; only then the decay starts, over 158.5k steps.
    assert _learning_rate(config, 0) == pytest.approx(1e-6, rel=1e-5)
    assert _learning_rate(config, 1500) == pytest.approx(config.schedule.peak, rel=1e-5)
    middle = 80_000 / 158_500 * config.schedule.peak
    assert _learning_rate(config, 80_000) == pytest.approx(middle, rel=1e-4)


# The authors' configs for ADE20K and COCO-Stuff (mmseg 0.24.1) and JSeg's for iSAID; of
# the others mmsegmentation's data sets and schedules, in the authors' recipe.


@pytest.mark.parametrize(
    ("name", "train_split", "val_split", "resize_to", "crop_size", "num_steps"),
    [
        ("ade20k", "training", "validation", (512, 2048), (512, 512), 160_000),
        ("coco_stuff", "train2017", "val2017", (512, 2048), (512, 512), 80_000),
        ("isaid", "train", "val", (896, 896), (896, 896), 160_000),
        ("loveda", "Train", "Val", (512, 2048), (512, 512), 80_000),
        ("pascal_context", "train", "val", (520, 520), (480, 480), 80_000),
        ("voc2012", "trainaug", "val", (512, 2048), (512, 512), 40_000),
    ],
)
@pytest.mark.parametrize("variant", ["t", "s", "b", "l"])
def test_values_of_other_datasets(
    name, train_split, val_split, resize_to, crop_size, num_steps, variant
):
    config = load(f"configs/{name}.py:{variant}")
    assert config.data.train_split == train_split
    assert config.data.val_split == val_split
    assert config.data.resize_to == resize_to
    assert config.data.crop_size == crop_size
    assert config.train.batch_size == 16
    assert config.train.num_train_steps == num_steps
    # All else is as for Cityscapes, but for config.eval: see test_protocols.py.
    expected = common.cityscapes(variant.upper(), "official")
    for key in ("source", "root", "train_split", "val_split", "resize_to", "crop_size"):
        config.data[key] = expected.data[key]
    for key in ("batch_size", "num_train_steps", "eval_every_steps"):
        config.train[key] = expected.train[key]
    config.eval.update(expected.eval)
    assert config == expected


def test_default_variant_is_tiny():
    for name in DATASETS:
        assert load(f"configs/{name}.py") == load(f"configs/{name}.py:t")


@pytest.mark.parametrize("name", DATASETS)
def test_number_of_classes(name, tmp_path):
    config = load(f"configs/{name}.py")
    if name == "folder":
        (tmp_path / "classes.txt").write_text("a 0 0 0\nb 1 1 1\n")
        config.data.root = str(tmp_path)
    assert source_classes(config.data).num_classes == DATASETS[name]


@pytest.mark.parametrize("name", ["mscan_t", "quickstart"])
def test_cityscapes_classes(name):
    config = load(f"configs/{name}.py")
    assert source_classes(config.data).names[0] == "road"
    config.data.source = "cityscapes_tfds"
    assert source_classes(config.data).num_classes == 19


def test_camvid_classes():
    assert source_classes(load("configs/camvid.py").data).num_classes == 11


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("variant", ["xl", "ts", ""])
def test_unknown_variant_is_named(name, variant):
    with pytest.raises(ValueError, match=f"'{variant}': use one of t, s, b, l"):
        load(f"configs/{name}.py:{variant}")


def test_values_of_the_imagenet_recipe():
    """VAN-Classification, train.py and train.sh: timm on 8 × 128 images a step."""
    config = load("configs/imagenet_mscan_t.py")
    epoch = 1_281_167 // 1024  # the last images of an epoch make no batch
    assert (config.task, config.model.variant) == ("classification", "T")
    assert config.model.drop_path_rate == 0.1
    assert config.data.crop_size == (224, 224)
    assert config.data.area_range == (0.08, 1)
    assert config.data.aspect_range == (3 / 4, 4 / 3)
    assert config.data.randaugment_ops == 2
    assert config.data.randaugment_magnitude == 9
    assert config.data.randaugment_std == 0.5
    assert config.data.eval_crop_ratio == 0.9
    assert config.augment.flip_probability == 0.5
    assert config.augment.erase_probability == 0.25
    assert config.augment.mixup_alpha == 0.8
    assert config.augment.cutmix_alpha == 1
    assert config.loss.label_smoothing == 0.1
    assert (config.optimizer.b1, config.optimizer.b2) == (0.9, 0.999)
    assert config.optimizer.eps == 1e-8
    assert config.optimizer.weight_decay == 0.05
    assert config.optimizer.decay == "matrices"
    assert config.optimizer.clip_norm == 0
    assert config.schedule.form == "cosine"
    assert (config.schedule.peak, config.schedule.end) == (1e-3, 1e-6)
    assert (config.schedule.warmup_steps, config.schedule.warmup_start) == (
        5 * epoch,
        1e-6,
    )
    assert config.train.batch_size == 1024
    assert config.train.num_train_steps == 300 * epoch
    assert config.train.ema_decay == 0


def test_unknown_task_is_named():
    with pytest.raises(ValueError, match="'detection'"):
        common.base("detection")


def _learning_rate(config: ConfigDict, step: int) -> float:
    schedule = make_schedule(config.schedule, config.train.num_train_steps)
    return float(schedule(step))
