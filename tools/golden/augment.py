"""What the goldens of both peers' augmentations share: scene, colours, draws.

Every random number is given: while a peer's own transform runs, the functions that it
draws from return what is written here. A draw is in [0, 1).
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import golden_fill
import numpy as np

# Scale, then 11 times (y, x): what the crop of one example uses.
NUM_DRAWS = 23
VOID = 255


class CropCase(NamedTuple):
    """Recipe of one crop; resize_to () is the image's own size."""

    name: str
    crop_size: tuple[int, int]
    scale: float  # the draw
    resize_to: tuple[int, int] | tuple[()] = (64, 128)
    max_class_ratio: float = 0.75
    label: str = "scene"

    def draws(self) -> np.ndarray:
        """The draw of the scale, then those of the offsets, float64 [23]."""
        draws = uniform(self.name, NUM_DRAWS)
        draws[0] = self.scale
        return draws

    def recipe(self) -> dict[str, np.ndarray]:
        """What a test needs to know: draws and fields."""
        return {
            "draws": self.draws(),
            "crop_size": np.array(self.crop_size),
            "resize_to": np.array(self.resize_to, int),
            "max_class_ratio": np.array(self.max_class_ratio),
            "label_name": np.array(self.label),
        }


CROPS = (
    CropCase("enlarged", (32, 64), scale=0.93),
    CropCase("enlarged_unruled", (32, 64), scale=0.71, max_class_ratio=1.0),
    CropCase("shrunk", (24, 48), scale=0.2),
    CropCase("short", (60, 64), scale=0.2),
    CropCase("small", (48, 96), scale=0.0),
    CropCase("own_size", (32, 64), scale=0.6, resize_to=()),
    CropCase("retried", (24, 48), scale=0.5, label="corner"),
    CropCase("hopeless", (24, 48), scale=0.5, label="plain"),
    CropCase("void", (24, 48), scale=0.5, label="void"),
)
NUM_PLACES = 200
PLACE_CROP = (24, 40)


def scene() -> dict[str, np.ndarray]:
    """`image`, uint8 [75 141 3] RGB: sharp edges, a gradient and noise.

    Its labels, uint8 [75 141]: `scene` of 6 classes and void, `corner` (varied there
    alone), `plain` (one class, one other pixel) and `void` (little else).
    """
    h, w = 75, 141
    y, x = np.mgrid[:h, :w]
    image = np.stack([x * 255 // (w - 1), y * 255 // (h - 1), (x + y) % 256], -1)
    image[y // 5 % 3 == 0] = (200, 30, 90)
    image[(x // 7 % 4 == 1) & (y > 20)] = (10, 240, 60)
    image[50:, 90:] = golden_fill.uniform("noise", (h - 50, w - 90, 3), 0, 256)
    label = np.where(y < 30, 0, np.where(x < 60, 1, 2))
    label[(x // 7 % 4 == 1) & (y > 20)] = 3
    label[50:, 90:] = (x + y)[50:, 90:] // 3 % 2 + 4
    label[60:, :40] = VOID
    label[x % 47 == 46] = VOID
    corner = np.where((y > 40) & (x > 80), label, 2)
    plain = np.full((h, w), 3)
    plain[40, 70] = 1
    void = np.where((x + 2 * y) % 17 < 3, label, VOID)
    labels = {"scene": label, "corner": corner, "plain": plain, "void": void}
    return {n: a.astype(np.uint8) for n, a in ({"image": image} | labels).items()}


def colours() -> np.ndarray:
    """uint8 [24 64 3] RGB: uniform, few, grey, and corners of the colour cube."""
    # OpenCV truncates 32 pixels at once and rounds what is left of a row, so the width
    # is a multiple of 32.
    image = golden_fill.uniform("colours", (24, 64, 3), 0, 256).astype(np.uint8)
    image[12:16] = image[12:16] // 8 + 120  # of little saturation
    image[16] = image[16, :, :1]
    corners = np.stack(np.meshgrid(*[[0, 1, 128, 254, 255]] * 3), -1).reshape(-1, 3)
    image.reshape(-1, 3)[-len(corners) :] = corners
    return image


def places() -> Iterator[tuple[CropCase, tuple[int, int]]]:
    """Many crops, and the size of the top left of the scene that each is of."""
    for i in range(NUM_PLACES):
        scale, *size = uniform(f"places/{i}", 3)
        case = CropCase(f"place/{i}", PLACE_CROP, scale, resize_to=(48, 96))
        yield case, (int(30 + 45 * size[0]), int(60 + 81 * size[1]))


def crops(
    crop: Callable[[np.ndarray, np.ndarray, CropCase], dict[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """What `crop` makes of the named cases, and of many the places alone."""
    images = scene()
    golden = dict(images)
    for case in CROPS:
        result = case.recipe() | crop(images["image"], images[case.label], case)
        golden |= {f"{case.name}/{n}": x for n, x in result.items()}
    results = []
    for case, (h, w) in places():
        result = crop(images["image"][:h, :w], images["scene"][:h, :w], case)
        results.append(place(case, (h, w), result))
    return golden | stack("places", results)


def place(
    case: CropCase, image_size: tuple[int, int], result: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Of the crop of a case, what is kept of many: no pixels, the label's checksum."""
    crc = zlib.crc32(np.ascontiguousarray(result["label"]).tobytes())
    return {
        "draws": case.draws(),
        "image_size": np.array(image_size),
        "scaled_size": result["scaled_size"],
        "offset": result["offset"],
        "label": np.array(crc),
    }


def stack(prefix: str, results: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays of the results, [n ...] each."""
    return {f"{prefix}/{n}": np.stack([r[n] for r in results]) for n in results[0]}


def uniform(name: str, count: int) -> np.ndarray:
    """Draws in [0, 1), float64 [count], that follow from the name."""
    return np.random.RandomState(zlib.crc32(name.encode())).random_sample(count)


def integers(draws: Iterable[float]) -> Callable[[int, int], int]:
    """A `randint(low, high)`: the next draw, as an integer in [low, high)."""
    remaining = iter(draws)
    return lambda low, high: low + int(next(remaining) * (high - low))
