"""Predicts images and videos: python predict.py --checkpoint RUN --output DIR INPUT …

An INPUT is an image, a video, a folder, a glob, or a .txt file with a path a line. DIR
gets labels/NAME.png (class ids), colors/NAME.png and overlay/NAME.jpg, of the size of
the image; colors/NAME.mp4 and overlay/NAME.mp4 of a video. Exits with 1 if an input
cannot be read, with 2 if it cannot run. Runs without TensorFlow.
"""

import os

# FFmpeg's own complaints about broken videos; errors here name the file.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
# What is compiled is kept for the next start: docs/performance.md.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/segnext_jax")
)
os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(4 * 2**30))

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from configs import common
from data.classes import parse_classes
from data.evaluation import Bucket, check_views, plan_batches, stack_batch
from data.headers import UnreadableError
from data.inputs import Input, find_inputs
from data.parallel import ordered_map
from data.photos import photo_size, read_photo
from data.video import VideoWriter, read_frames, video_info
from segnext_jax.evaluation.segmenter import Segmented
from segnext_jax.parallel.mesh import local_rows, make_mesh
from segnext_jax.training.predictor import load_predictor
from segnext_jax.visual.console import name_misspelt_key, quiet_libraries
from segnext_jax.visual.palette import match_palette
from segnext_jax.visual.results import SUFFIXES, Results
from segnext_jax.visual.tables import count_of

FINE, UNREADABLE, CANNOT_RUN = 0, 1, 2

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "A workdir, or one step in its checkpoints/.", required=True
)
_INPUT = flags.DEFINE_multi_string(
    "input", [], "File, folder, glob or list; any number, with the flag or without."
)
_OUTPUT = flags.DEFINE_string("output", None, "Folder for the results.", required=True)
_WRITE = flags.DEFINE_list("write", [*SUFFIXES], f"Which of {', '.join(SUFFIXES)}.")
_PALETTE = flags.DEFINE_string(
    "palette", None, "File of other colours, with a line `name r g b` for each class."
)
_OPACITY = flags.DEFINE_float(
    "opacity", 0.5, "Of the colours in overlays.", lower_bound=0, upper_bound=1
)
_LEGEND = flags.DEFINE_bool("legend", False, "Name the classes below overlays.")

_T = TypeVar("_T")
_Group = tuple[Bucket, list[tuple[Input, np.ndarray]]]  # images for one program


class _Prediction(NamedTuple):
    source: Input
    image: np.ndarray  # uint8 [h w 3] RGB
    pred: np.ndarray  # uint8 [h w] train ids


def main(argv: list[str]) -> int:
    quiet_libraries()
    try:
        return _predict([*argv[1:], *_INPUT.value])
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return CANNOT_RUN


def _predict(arguments: Sequence[str]) -> int:
    """Predicts all inputs, and returns the exit code.

    Raises ValueError or OSError where nothing can be read or written.
    """
    if not arguments:
        raise ValueError("no input: name images, videos, folders, globs or lists")
    inputs = find_inputs(arguments, _OUTPUT.value)
    photos = [each for each in inputs if not each.is_video]
    videos = [each for each in inputs if each.is_video]
    network = _Network(_CHECKPOINT.value)
    results = Results(
        _OUTPUT.value,
        _WRITE.value,
        network.classes,
        _palette(network),
        opacity=_OPACITY.value,
        legend=_LEGEND.value,
    )
    if videos and results.kinds == ("labels",):
        raise ValueError(
            "--write=labels is for images, as a video would not keep ids: add colors"
            f" or overlay for {videos[0].path}"
        )
    problems: list[UnreadableError] = []
    start = time.monotonic()
    num_images = _predict_photos(network, results, photos, problems)
    num_frames = sum(_predict_video(network, results, v, problems) for v in videos)
    done = [count_of(num_images, "image")] if photos else []
    done += [count_of(num_frames, "video frame")] if videos else []
    print(
        f"{_OUTPUT.value}: {', '.join(results.kinds)} of {' and '.join(done)} written"
        f" in {time.monotonic() - start:.1f} s."
    )
    if problems:
        count = count_of(len(problems), "input")
        print(f"{count} could not be read:", *problems, sep="\n  ", file=sys.stderr)
    return UNREADABLE if problems else FINE


def _palette(network: "_Network") -> Sequence[Sequence[int]]:
    path = _PALETTE.value
    if path is None:
        return network.palette
    with open(path, encoding="utf-8-sig") as file:
        given = parse_classes(file.read(), path)
    return match_palette(network.classes, given.names, given.palette, path)


class _Network:
    """Predicts images of any size in batches. Raises as `load_predictor`."""

    def __init__(self, checkpoint: str):
        self._predictor = load_predictor(checkpoint, _complete, make_mesh())
        self.classes, self.palette = self._predictor.classes, self._predictor.palette
        self.eval_config = self._predictor.eval_config
        self.batch_size = self.eval_config.batch_size
        location = self._predictor.location
        logging.info("Predicting by step %d of %s.", location.step, location.workdir)

    def __call__(self, groups: Iterable[_Group]) -> Iterator[_Prediction]:
        """Predicts groups of at most `batch_size`, computing one ahead."""
        pending = None
        for bucket, group, batch in ordered_map(self._stack, groups, ahead=2):
            segmenter, variables = self._predictor.segmenter, self._predictor.variables
            results = [
                segmenter.run(variables, rows, bucket.shape)
                for rows in segmenter.groups(batch)
            ]
            if pending:
                yield from _unstack(*pending)
            pending = group, results
        if pending:
            yield from _unstack(*pending)

    def _stack(self, item: _Group):
        bucket, group = item
        images, rows = [image for _, image in group], len(group)
        batch = stack_batch(images, None, range(rows), bucket, self.eval_config, rows)
        return bucket, group, batch


def _complete(config: ConfigDict) -> ConfigDict:
    """The config of a checkpoint with the values of --eval."""
    config = common.complete(config)
    overrides = config_flags.get_override_values(flags.FLAGS["eval"])
    config.update_from_flattened_dict({f"eval.{k}": v for k, v in overrides.items()})
    check_views(config.eval)
    return config


def _unstack(
    group: list[tuple[Input, np.ndarray]], results: list[Segmented]
) -> Iterator[_Prediction]:
    preds = (pred for result in results for pred in local_rows(result.pred))
    for (source, image), pred in zip(group, preds, strict=False):
        height, width = image.shape[:2]  # what is beyond, and more rows, only fill
        yield _Prediction(source, image, pred[:height, :width])


def _predict_photos(
    network: _Network,
    results: Results,
    photos: Sequence[Input],
    problems: list[UnreadableError],
) -> int:
    """Returns how many could be read."""
    known = list(_readable(ordered_map(_reader(photo_size), photos), problems))
    if not known:
        return 0
    sizes = np.array([size for _, size in known])
    plan = plan_batches(sizes, network.eval_config, network.batch_size)

    def groups() -> Iterator[_Group]:
        order = [known[i][0] for planned in plan for i in planned.indices]
        ahead = 2 * network.batch_size + 2
        images = ordered_map(_reader(read_photo), order, ahead=ahead)
        for bucket, indices in plan:
            if group := list(_readable(islice(images, len(indices)), problems)):
                yield bucket, group

    def save(prediction: _Prediction) -> None:
        results.save(prediction.source.name, prediction.image, prediction.pred)

    saved = ordered_map(save, network(groups()), ahead=network.batch_size + 4)
    # On a terminal alone.
    progress = tqdm(saved, total=len(known), unit=" images", disable=None)
    return sum(1 for _ in progress)


def _predict_video(
    network: _Network,
    results: Results,
    video: Input,
    problems: list[UnreadableError],
) -> int:
    """Returns the number of its frames, or of those before it breaks off."""
    try:
        info = video_info(video.path)
    except UnreadableError as error:
        _report(error, problems)
        return 0
    sizes = np.array([info.size])
    ((bucket, _),) = plan_batches(sizes, network.eval_config, network.batch_size)
    kinds = [kind for kind in results.kinds if kind != "labels"]
    all_classes = range(len(network.classes))

    def groups() -> Iterator[_Group]:
        group = []
        try:
            for frame in read_frames(video.path):
                group.append((video, frame))
                if len(group) == network.batch_size:
                    yield bucket, group
                    group = []
        except UnreadableError as error:
            _report(error, problems)
        if group:
            yield bucket, group

    def draw(prediction: _Prediction) -> list[np.ndarray]:
        _, frame, pred = prediction
        return [results.draw(kind, frame, pred, all_classes) for kind in kinds]

    drawn = ordered_map(draw, network(groups()), ahead=network.batch_size + 4)
    total = info.num_frames or None
    progress = tqdm(drawn, video.path, total, unit=" frames", disable=None)
    count = 0
    with ExitStack() as stack:
        paths = [results.path(kind, video.name, ".mp4") for kind in kinds]
        writers = [stack.enter_context(VideoWriter(p, info.fps)) for p in paths]
        for pictures in progress:
            for writer, picture in zip(writers, pictures, strict=True):
                writer.write(picture)
            count += 1
    return count


def _reader(
    read: Callable[[str], _T],
) -> Callable[[Input], tuple[Input, _T] | UnreadableError]:
    """Makes a reader return its error, for others to be read on."""

    def try_read(each: Input) -> tuple[Input, _T] | UnreadableError:
        try:
            return each, read(each.path)
        except UnreadableError as error:
            return error

    return try_read


def _readable(
    items: Iterable[tuple[Input, _T] | UnreadableError],
    problems: list[UnreadableError],
) -> Iterator[tuple[Input, _T]]:
    for item in items:
        if isinstance(item, UnreadableError):
            _report(item, problems)
        else:
            yield item


def _report(error: UnreadableError, problems: list[UnreadableError]) -> None:
    tqdm.write(str(error), file=sys.stderr)
    problems.append(error)


def _define_and_parse(argv: list[str]) -> list[str]:
    # Here and not above: it reads the command line at once, and may fail.
    config_flags.DEFINE_config_dict(
        "eval", common.base().eval, "How to predict; the checkpoint's values if unset."
    )
    return app.parse_flags_with_usage(argv)


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        return name_misspelt_key(_define_and_parse)(argv)
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        raise SystemExit(CANNOT_RUN) from None


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
