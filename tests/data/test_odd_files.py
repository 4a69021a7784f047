"""Files that people have: each is read right, or named; none is mislabelled."""

import itertools

import numpy as np
import pytest
from PIL import Image

from configs import common
from data import pipeline
from data.classes import train_id_table
from data.evaluation import EvalReader
from data.sources.folder import Folder

CLASSES = train_id_table("abc", [(0, 0, 0), (90, 90, 90), (180, 180, 180)])
SIZE = (20, 30)


@pytest.fixture
def label():
    return (np.indices(SIZE).sum(0) // 7 % 3).astype(np.uint8)


@pytest.fixture
def write(tmp_path, label):
    """Writes one image, grey levels 90 × the train id, with its label."""

    def write(image=None, raw_label=None, name="x.png", exif=None):
        if image is None:
            image = Image.fromarray(label * 90)
        if raw_label is None:
            raw_label = Image.fromarray(label)
        for folder, picture, file in [
            ("images", image, name),
            ("labels", raw_label, name.rsplit(".")[0] + ".png"),
        ]:
            path = tmp_path / folder / "train" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            options = {} if exif is None or folder == "labels" else {"exif": exif}
            picture.save(path, **options)
        return tmp_path

    return write


def evaluate(root):
    source = Folder(str(root), "train", CLASSES)
    (batch,) = EvalReader(source, common.base().eval, batch_size=1)()
    return batch["views"][0][0], batch["label"][0]


def train(root, data_config, steps=6):
    data_config.update(scale_range=(1.0, 1.0), max_class_ratio=1.0)
    source = Folder(str(root), "train", CLASSES)
    stream = pipeline.train_stream(source, data_config, seed=0, batch_size=1)
    return list(itertools.islice(stream, steps))


def palette(label):
    image = Image.fromarray(label)
    image.putpalette([x for i in range(3) for x in (i * 90,) * 3])
    return image


@pytest.mark.parametrize(
    "make_image",
    [
        lambda label: Image.fromarray(label * 90),
        lambda label: Image.fromarray((label * 90).astype(np.uint16) * 256 + 17),
        palette,
        lambda label: Image.fromarray(np.stack([label * 90] * 3, -1)),
        lambda label: Image.fromarray(np.stack([label * 90] * 3 + [label], -1)),
        lambda label: Image.fromarray(np.stack([label * 90, label], -1), "LA"),
    ],
    ids=["grey", "16-bit", "palette", "RGB", "RGBA", "grey with alpha"],
)
@pytest.mark.parametrize(
    "make_label",
    [
        Image.fromarray,
        palette,
        lambda label: Image.fromarray(label.astype(np.uint16)),
    ],
    ids=["grey", "palette", "16-bit"],
)
def test_kinds_of_png(write, label, data_config, make_image, make_label):
    root = write(make_image(label), make_label(label))
    image, seen = evaluate(root)
    np.testing.assert_array_equal(seen, label)
    np.testing.assert_array_equal(image, np.stack([label * 90] * 3, -1))
    # The crop of 24×32 is larger: the image comes whole, the rest is padding.
    for batch in train(root, data_config, steps=2):
        assert batch["size"].tolist() == [list(SIZE)]
        np.testing.assert_array_equal(batch["label"][0, :20, :30], label)
        np.testing.assert_array_equal(batch["image"][0, :20, :30], image)
        assert (batch["label"][0, 20:] == 255).all()


def test_photograph_that_is_stored_turned(write, label, data_config):
    """What the camera calls the top is at the right; the label is as one sees it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.rot90(np.stack([label * 90] * 3, -1))
    root = write(Image.fromarray(turned), name="x.jpg", exif=exif)
    for image, seen in [
        evaluate(root),
        *(
            (batch["image"][0, :20, :30], batch["label"][0, :20, :30])
            for batch in train(root, data_config)
        ),
    ]:
        np.testing.assert_array_equal(seen, label)
        assert np.abs(image[..., 0].astype(int) - label * 90).mean() < 8  # JPEG's


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1)])
def test_tiny_images(write, data_config, size):
    image = Image.fromarray(np.full((*size, 3), 180, np.uint8))
    root = write(image, Image.fromarray(np.full(size, 2, np.uint8)))
    assert evaluate(root)[1].tolist() == np.full(size, 2).tolist()
    for batch in train(root, data_config):
        (h, w), label = batch["size"][0], batch["label"][0]
        assert (h, w) == (min(size[0], 24), min(size[1], 32))
        assert (label[:h, :w] == 2).all() and (label == 255).sum() == 24 * 32 - h * w


def test_label_of_300_in_16_bits_is_named(write, label, data_config):
    wide = label.astype(np.uint16)
    wide[3, 4] = 300  # as a byte it would be 44
    root = write(raw_label=Image.fromarray(wide))
    for run in (evaluate, lambda root: train(root, data_config)):
        with pytest.raises(ValueError, match=r"labels/train/x\.png: label ids 300 are"):
            run(root)


def test_damaged_png_is_named(write, data_config):
    root = write()
    path = root / "images/train/x.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    for run in (evaluate, lambda root: train(root, data_config)):
        with pytest.raises(ValueError, match=r"x\.png: not a readable image"):
            run(root)


def test_empty_folder_is_named(tmp_path):
    (tmp_path / "images/train").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no images found"):
        Folder(str(tmp_path), "train", CLASSES)


def test_list_of_windows_with_spaces_in_names(write, label, tmp_path):
    write(name="my photo 1.png")
    lines = ["\ufeffimages\\train\\my photo 1.png\tlabels\\train\\my photo 1.png", ""]
    (tmp_path / "train.txt").write_bytes("\r\n".join(lines).encode())
    source = Folder(str(tmp_path), "train.txt", CLASSES)
    (batch,) = EvalReader(source, common.base().eval, batch_size=1)()
    np.testing.assert_array_equal(batch["label"][0], label)
