"""What a person names on a command line -> image and video files."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".mpo", ".png", ".bmp", ".webp", ".tif", ".tiff"),
    *(".gif", ".ppm", ".pgm", ".jp2", ".avif"),
)
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
_LIST_SUFFIX = ".txt"


class Input(NamedTuple):
    """A file to predict, and what its results are called."""

    path: str
    name: str  # relative, without suffix, e.g. "val/frame_7"

    @property
    def is_video(self) -> bool:
        return self.path.lower().endswith(VIDEO_SUFFIXES)


def find_inputs(arguments: Sequence[str], output: str) -> list[Input]:
    """Expands arguments to files, each of them once.

    An argument is a file; a folder, for the images and videos at any depth; a glob, for
    those that match (`**` for folders of any depth); or a list, NAME.txt, of files, one
    a line, relative to the current folder or else to that of the list. Hidden files are
    left out.

    Names keep the path below the folder, below the fixed part of the glob, or below the
    folder that the files have in common.

    Args:
      arguments: as given; all local.
      output: the folder of the results, in which nothing is looked for.

    Raises FileNotFoundError for an argument that stands for no file, ValueError if two
    files have one name or if a file is in `output`. A file in a list may be missing:
    then reading it fails.
    """
    found: dict[str, Input] = {}  # by real path
    for base, path in _files(arguments, output):
        name = os.path.splitext(os.path.relpath(path, base))[0]
        found.setdefault(os.path.realpath(path), Input(path, name))
    taken: dict[str, str] = {}
    for path, name in found.values():
        if _is_below(path, output):
            raise ValueError(
                f"the output folder {output} has the input {path} in it: choose a"
                " folder of its own"
            )
        if name in taken:
            raise ValueError(
                f"the results of {taken[name]} and {path} would both be called"
                f" {name!r}: rename one, or predict them into two folders"
            )
        taken[name] = path
    return list(found.values())


def _files(arguments: Sequence[str], output: str) -> Iterator[tuple[str, str]]:
    """(folder that names are relative to, file)."""
    single = []
    for argument in arguments:
        if os.path.isdir(argument):
            paths = list(_walk(argument, output))
            _require(paths, f"no image or video in the folder {argument}")
            yield from ((argument, path) for path in paths)
        elif os.path.isfile(argument):
            if argument.lower().endswith(_LIST_SUFFIX):
                yield from _below_common_folder(_read_list(argument))
            else:
                single.append(argument)
        elif glob.has_magic(argument):
            paths = sorted(glob.iglob(argument, recursive=True))
            paths = [p for p in paths if _is_wanted(p) and not _is_below(p, output)]
            _require(paths, f"no image or video matches {argument}")
            yield from ((_fixed_part(argument), path) for path in paths)
        else:
            _require([], f"there is no file or folder {argument}")
    yield from _below_common_folder(single)


def _require(paths: Sequence[str], message: str) -> None:
    if not paths:
        raise FileNotFoundError(message)


def _walk(folder: str, output: str) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not _is_below(f"{root}/{name}", output)
        )
        paths = (os.path.join(root, name) for name in sorted(files))
        yield from filter(_is_wanted, paths)


def _read_list(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig") as file:  # Windows writes a mark first
            lines = [line.strip() for line in file if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 text ({error}); save it as UTF-8"
        ) from None
    _require(lines, f"the list {path} is empty; write one file a line")
    beside = os.path.dirname(path)
    return [
        line if os.path.exists(line) else os.path.join(beside, line) for line in lines
    ]


def _below_common_folder(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    paths = list(paths)
    folders = [os.path.dirname(os.path.abspath(path)) for path in paths]
    yield from ((os.path.commonpath(folders), path) for path in paths)


def _fixed_part(pattern: str) -> str:
    head = os.path.dirname(pattern)
    while glob.has_magic(head):
        head = os.path.dirname(head)
    return head or os.curdir


def _is_wanted(path: str) -> bool:
    return (
        path.lower().endswith(IMAGE_SUFFIXES + VIDEO_SUFFIXES)
        and not os.path.basename(path).startswith(".")
        and os.path.isfile(path)
    )


def _is_below(path: str, folder: str) -> bool:
    path, folder = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath([path, folder]) == folder
