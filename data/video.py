"""Videos, one frame at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import numpy as np

from data.headers import UnreadableError

# Plays everywhere but in browsers; VP9, which those play, takes 40 times as long.
_CODEC = "mp4v"
# Containers tell roughly how many frames they hold.
_MISSING_FRAMES = 2
_MISSING_SHARE = 0.02


class VideoInfo(NamedTuple):
    size: tuple[int, int]  # height, width
    fps: float
    num_frames: int  # as the container says, roughly; 0: it does not


def video_info(path: str) -> VideoInfo:
    """Reads the header and the first frame. Raises UnreadableError."""
    with _open(path) as capture:
        is_read, frame = capture.read()
        if not is_read:
            raise UnreadableError(f"{path}: no frame of this video can be decoded")
        fps = capture.get(cv2.CAP_PROP_FPS)
        if not 0 < fps < 1000:
            raise UnreadableError(f"{path}: a video of {fps} frames a second")
        num_frames = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        height, width = frame.shape[:2]
        return VideoInfo((height, width), fps, num_frames)


def read_frames(path: str) -> Iterator[np.ndarray]:
    """Yields uint8 [h w 3] RGB, upright.

    Raises UnreadableError; after the last readable frame, if some are missing.
    """
    info = video_info(path)
    count = 0
    with _open(path) as capture:
        while True:
            is_read, frame = capture.read()
            if not is_read:
                break
            if frame.shape[:2] != info.size:
                raise UnreadableError(
                    f"{path}: frame {count} is {frame.shape[:2]}, the first one"
                    f" {info.size} (height, width)"
                )
            count += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    tolerated = max(_MISSING_FRAMES, _MISSING_SHARE * info.num_frames)
    if count < info.num_frames - tolerated:
        raise UnreadableError(
            f"{path}: only {count} of {info.num_frames} frames can be decoded; the"
            " video is damaged or cut off"
        )


class VideoWriter:
    """Writes an MP4 file, which appears, whole, when the `with` block ends.

    Nothing is left behind by a block that raises, or that writes no frame. MPEG-4 has
    even sides: an odd one is made longer, by its last pixels once more.

    Args:
      path: of the file; its folder must exist.
      fps: frames a second.
    """

    def __init__(self, path: str, fps: float):
        folder, name = os.path.split(path)
        self._path, self._fps = path, fps
        self._partial = os.path.join(folder, f".partial-{name}")
        self._writer: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray) -> None:
        """Appends uint8 [h w 3] RGB, all of one size. Raises OSError."""
        frame = np.pad(
            frame, [*((0, side % 2) for side in frame.shape[:2]), (0, 0)], mode="edge"
        )
        height, width = frame.shape[:2]
        if self._writer is None:
            codec = cv2.VideoWriter.fourcc(*_CODEC)
            size = width, height
            self._writer = cv2.VideoWriter(self._partial, codec, self._fps, size)
            if not self._writer.isOpened():
                raise OSError(
                    f"{self._path}: no video of {height} × {width}, {self._fps} frames"
                    " a second, can be written"
                )
        self._writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if self._writer is None:
            return
        self._writer.release()
        if error_type is None:
            os.replace(self._partial, self._path)
        elif os.path.exists(self._partial):
            os.remove(self._partial)


@contextmanager
def _open(path: str) -> Iterator[cv2.VideoCapture]:
    if not os.path.isfile(path):
        raise UnreadableError(f"{path}: there is no such file")
    capture = cv2.VideoCapture(path)
    try:
        if not capture.isOpened():
            raise UnreadableError(f"{path}: not a readable video")
        yield capture
    finally:
        capture.release()
