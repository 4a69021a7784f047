import cv2
import numpy as np
import pytest

from data.headers import UnreadableError
from data.video import VideoWriter, read_frames, video_info

FPS = 12.5


def frames(count, size=(48, 64)):
    """Grey levels that rise by frame, red on the left."""
    for level in range(0, 10 * count, 10):
        frame = np.full((*size, 3), level, np.uint8)
        frame[:, : size[1] // 2, 0] = 255
        yield frame


def write(path, images):
    with VideoWriter(str(path), FPS) as writer:
        for image in images:
            writer.write(image)
    return str(path)


def test_video_keeps_its_frames(tmp_path):
    path = write(tmp_path / "x.mp4", frames(12))
    assert video_info(path) == ((48, 64), FPS, 12)
    read = list(read_frames(path))
    assert len(read) == 12
    for expected, actual in zip(frames(12), read, strict=True):
        error = np.abs(expected.astype(int) - actual)
        # Chroma is halved, so that colours mix where they meet.
        assert error[:, :28].max() < 10 and error[:, 36:].max() < 10


def test_odd_sides_lose_nothing(tmp_path):
    path = write(tmp_path / "x.mp4", frames(2, (47, 63)))
    assert video_info(path).size == (48, 64)
    frame = next(read_frames(path)).astype(int)
    np.testing.assert_allclose(frame[-1], frame[-2], atol=6)


def test_file_appears_whole(tmp_path):
    path = tmp_path / "x.mp4"
    path.write_bytes(b"before")
    with VideoWriter(str(path), FPS) as writer:
        writer.write(next(frames(1)))
        assert path.read_bytes() == b"before"
    assert video_info(str(path)).num_frames == 1
    assert list(tmp_path.iterdir()) == [path]


def test_failure_leaves_nothing_behind(tmp_path):
    def broken():
        yield from frames(2)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write(tmp_path / "x.mp4", broken())
    write(tmp_path / "empty.mp4", [])
    assert list(tmp_path.iterdir()) == []


def test_no_folder_to_write_into(tmp_path):
    with pytest.raises(OSError, match="no video of 48 × 64, 12"):
        write(tmp_path / "missing" / "x.mp4", frames(1))


@pytest.mark.parametrize("content", [None, b"", b"no video", "cut"])
def test_unreadable_video_is_named(tmp_path, content):
    path = tmp_path / "x.mp4"
    if content == "cut":
        write(path, frames(12))
        content = path.read_bytes()[:-200]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableError, match=str(path)):
        list(read_frames(str(path)))


def test_video_that_breaks_off_is_named_after_its_last_frame(tmp_path):
    path = tmp_path / "x.mkv"  # MP4 cannot be read at all then
    codec = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), codec, FPS, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(20):
        writer.write(rng.integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    count = 0
    with pytest.raises(UnreadableError, match=r"only \d+ of 20 frames") as error:
        for _ in read_frames(str(path)):
            count += 1
    assert 5 < count < 15
    assert f"only {count} of 20" in str(error.value)
