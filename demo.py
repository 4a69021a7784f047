"""A page to try a checkpoint: python demo.py --checkpoint RUN, then open its address.

Drop a photo on it to see the classes over the photo, and how much of it they cover. The
same class map as predict.py. Needs requirements-demo.txt; sends nothing anywhere.
"""

import os

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before the import, which reads it
# What is compiled is kept for the next start: docs/performance.md.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/segnext_jax")
)
os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(4 * 2**30))

import logging as standard_logging
from typing import NamedTuple

import gradio as gr
import numpy as np
from absl import app, flags
from ml_collections import ConfigDict, config_flags

from configs import common
from data.evaluation import check_views, plan_batches, stack_batch
from data.photos import photo_size, read_photo
from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.training.predictor import Predictor, load_predictor
from segnext_jax.visual.console import name_misspelt_key, quiet_libraries
from segnext_jax.visual.overlay import overlay
from segnext_jax.visual.prediction import SHARES_STYLE, class_shares, shares_table

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "A workdir, or one step in its checkpoints/.", required=True
)
_HOST = flags.DEFINE_string("host", "127.0.0.1", "0.0.0.0: for other machines, too.")
_PORT = flags.DEFINE_integer("port", 7860, "Of the page.")
_MAX_MEGAPIXELS = flags.DEFINE_float(
    "max_megapixels", 16, "Larger photos are refused.", lower_bound=0
)


class _Prediction(NamedTuple):
    image: np.ndarray  # uint8 [h w 3] RGB
    pred: np.ndarray  # uint8 [h w] train ids


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    quiet_libraries()
    standard_logging.getLogger("httpx").setLevel("WARNING")  # Gradio calls itself
    try:
        predictor = load_predictor(_CHECKPOINT.value, _complete, make_mesh())
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from None
    page = _make_page(predictor, _MAX_MEGAPIXELS.value)
    _, address, _ = page.launch(
        server_name=_HOST.value,
        server_port=_PORT.value,
        share=False,
        # Fonts of the system: others would be downloaded.
        theme=gr.themes.Default(
            font=["system-ui", "sans-serif"], font_mono="monospace"
        ),
        css=SHARES_STYLE,
        footer_links=[],
        quiet=True,
        prevent_thread_lock=True,
    )
    print(f"Open {address} in a browser; Ctrl+C ends.", flush=True)
    page.block_thread()


def _complete(config: ConfigDict) -> ConfigDict:
    """The config of a checkpoint with the values of --eval."""
    config = common.complete(config)
    overrides = config_flags.get_override_values(flags.FLAGS["eval"])
    config.update_from_flattened_dict({f"eval.{k}": v for k, v in overrides.items()})
    check_views(config.eval)
    return config


def _make_page(predictor: Predictor, max_megapixels: float) -> gr.Blocks:
    nothing = None, None, ""

    def predict(path: str, opacity: float):
        try:
            image = _read(path, max_megapixels)
        except ValueError as error:
            # By the name that the person knows, not where Gradio has put it.
            message = str(error).replace(path, os.path.basename(path))
            gr.Warning(message, duration=None)
            return nothing
        prediction = _Prediction(image, _predict(predictor, image))
        shares = class_shares(prediction.pred, len(predictor.classes))
        table = shares_table(shares, predictor.classes, predictor.palette)
        return prediction, draw(prediction, opacity), table

    def draw(prediction: _Prediction | None, opacity: float) -> np.ndarray | None:
        if prediction is None:
            return None
        return overlay(*prediction, predictor.palette, opacity)

    step, workdir = predictor.location.step, predictor.location.workdir.name
    # Uploads are deleted after an hour.
    with gr.Blocks(title="SegNeXt", delete_cache=(3600, 3600)) as page:
        gr.Markdown(f"## SegNeXt: step {step} of {workdir}")
        prediction = gr.State()
        with gr.Row():
            with gr.Column(scale=5):
                photo = gr.File(label="Photo", file_types=["image"], height=140)
                picture = gr.Image(
                    label="Classes",
                    format="jpeg",
                    interactive=False,
                    buttons=["download", "fullscreen"],
                )
            with gr.Column(scale=2):
                opacity = gr.Slider(0, 1, 0.5, step=0.05, label="Opacity")
                table = gr.HTML()
        photo.upload(predict, [photo, opacity], [prediction, picture, table])
        photo.clear(lambda: nothing, None, [prediction, picture, table])
        opacity.release(draw, [prediction, opacity], picture)
    return page


def _read(path: str, max_megapixels: float) -> np.ndarray:
    """Raises ValueError for a photo that is too large or unreadable."""
    height, width = photo_size(path)
    megapixels = height * width / 1e6
    if megapixels > max_megapixels:
        raise ValueError(
            f"{path} has {megapixels:.3g} megapixels, and this page takes up to"
            f" {max_megapixels:g} (--max_megapixels): make it smaller, or give it to"
            " predict.py"
        )
    return read_photo(path)


def _predict(predictor: Predictor, image: np.ndarray) -> np.ndarray:
    sizes, config = np.array([image.shape[:2]]), predictor.eval_config
    ((bucket, indices),) = plan_batches(sizes, config, batch_size=1)
    batch = stack_batch([image], None, indices, bucket, config, rows=1)
    return predictor.segmenter(predictor.variables, batch, bucket.shape)[0]


def _define_and_parse(argv: list[str]) -> list[str]:
    # Here and not above: it reads the command line at once, and may fail.
    config_flags.DEFINE_config_dict(
        "eval", common.base().eval, "How to predict; the checkpoint's values if unset."
    )
    return app.parse_flags_with_usage(argv)


if __name__ == "__main__":
    app.run(main, flags_parser=name_misspelt_key(_define_and_parse))
