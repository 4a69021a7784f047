"""Class tables: names, palette and raw id -> train id, as data."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

IGNORE_LABEL = 255
_ILLEGAL = 254  # marks what is outside the table; no train id reaches it
_NUM_SHOWN = 10  # of illegal ids, in a message

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ClassTable:
    """Classes of a dataset, in the order of their train ids.

    `raw_to_train` gives for every legal raw id (the value in a label file) its
    train id, or IGNORE_LABEL. Files hold uint8, so raw id -1 is stored as 255.
    `colour_to_train` does so for the label files that hold colours instead of ids; it
    is empty where there are none.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...]
    raw_to_train: Mapping[int, int]
    colour_to_train: Mapping[Colour, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < len(self.names) < _ILLEGAL:
            raise ValueError(f"{len(self.names)} classes; 1 to {_ILLEGAL - 1} fit")
        if len(self.palette) != len(self.names):
            raise ValueError(f"{len(self.palette)} colours, {len(self.names)} names")
        for to_train in (self.raw_to_train, self.colour_to_train):
            train_ids = set(to_train.values()) - {IGNORE_LABEL}
            if to_train and train_ids != set(range(self.num_classes)):
                raise ValueError(
                    f"train ids must be 0..{self.num_classes - 1}, all used"
                )

    @property
    def num_classes(self) -> int:
        """Number of classes that are trained and scored (void is not one)."""
        return len(self.names)

    def to_train_ids(self, raw_label: np.ndarray, origin: str) -> np.ndarray:
        """Translates a label as it is in the file to train ids, uint8 [h w].

        Args:
          raw_label: raw ids, uint8 or uint16 [h w], or colours, uint8 [h w 3] RGB.
          origin: the file, for messages.

        Raises ValueError that names `origin`, the illegal ids or colours and the legal
        ones; also for colours where the labels of these classes hold ids.
        """
        if raw_label.ndim == 3:
            return self._colours_to_train_ids(raw_label, origin)
        if raw_label.dtype == np.uint8:
            # bytes.translate is a plain table walk: 5x faster than NumPy indexing.
            translated = raw_label.tobytes().translate(self._lookup)
            label = np.frombuffer(translated, np.uint8).reshape(raw_label.shape)
            is_legal = _ILLEGAL not in translated
        else:
            assert raw_label.dtype == np.uint16, raw_label.dtype
            label = self._wide_lookup[raw_label]
            is_legal = _ILLEGAL not in label
        if not is_legal:
            illegal = label == _ILLEGAL
            ids = _listing(str(i) for i in np.unique(raw_label[illegal]))
            raise ValueError(
                f"{origin}: label ids {ids} are outside the {self.num_classes} classes;"
                f" legal ids are {_ranges(self.raw_to_train)}. Correct the labels, or"
                " choose the right table with config.data.classes."
            )
        return label

    def _colours_to_train_ids(self, colours: np.ndarray, origin: str) -> np.ndarray:
        if not self.colour_to_train:
            raise ValueError(
                f"{origin}: an RGB image; labels of these {self.num_classes} classes"
                " are PNGs of one channel, grey or palette, with an id a pixel: legal"
                f" ids are {_ranges(self.raw_to_train)}"
            )
        codes = _pack(colours)
        label = self._colour_lookup.take(codes)
        illegal = label == _ILLEGAL
        if illegal.any():
            found = (divmod(i, 1 << 16) for i in np.unique(codes[illegal]).tolist())
            listing = _listing(str((r, *divmod(gb, 256))) for r, gb in found)
            legal = ", ".join(map(str, self.colour_to_train))
            raise ValueError(
                f"{origin}: label colours {listing} (red, green, blue) are of none of"
                f" the {self.num_classes} classes; legal are {legal}"
            )
        return label

    @cached_property
    def _lookup(self) -> bytes:
        table = bytearray([_ILLEGAL]) * 256
        for raw_id, train_id in self.raw_to_train.items():
            table[raw_id % 256] = train_id
        return bytes(table)

    @cached_property
    def _wide_lookup(self) -> np.ndarray:
        table = np.full(1 << 16, _ILLEGAL, np.uint8)
        table[:256] = np.frombuffer(self._lookup, np.uint8)
        return table

    @cached_property
    def _colour_lookup(self) -> np.ndarray:
        # 16 MiB, for a table walk: searching among 16 colours takes 4 times as long.
        table = np.full(1 << 24, _ILLEGAL, np.uint8)
        for colour, train_id in self.colour_to_train.items():
            table[_pack(np.array(colour, np.uint8))] = train_id
        return table


def _pack(colours: np.ndarray) -> np.ndarray:
    """Returns red << 16 | green << 8 | blue of uint8 [... 3] as uint32 [...]."""
    octets = np.zeros((*colours.shape[:-1], 4), np.uint8)
    octets[..., :3] = colours[..., ::-1]
    return octets.view("<u4")[..., 0]


def train_id_table(names: Iterable[str], palette: Iterable[Colour]) -> ClassTable:
    """Returns the table of labels that hold train ids, and 255 for void."""
    names = tuple(names)
    identity = {i: i for i in range(len(names))} | {IGNORE_LABEL: IGNORE_LABEL}
    return ClassTable(names, tuple(palette), identity)


def parse_classes(text: str, origin: str, *, colour_labels: bool = False) -> ClassTable:
    """Reads the text of a class file, one class a line in the order of the train ids.

    `name r g b`        labels hold 0 for the first class, 1 for the second, …
    `ids: name r g b`   labels hold these raw ids, as in `7: road 128 64 128` or
                        `4,6-8: wall 70 70 70`; then every class must have ids
    `ids: ignore`       raw ids that do not count; 255 does not unless it is a class
    `ignore r g b`      a colour that does not count; also `ids: ignore r g b`

    All other ids are illegal. With `colour_labels`, label files may also hold the
    colours instead of ids, if no two of them are equal.

    Raises ValueError that names `origin` and the line.
    """
    names: list[str] = []
    palette: list[Colour] = []
    raw_to_train: dict[int, int] = {}
    colour_to_train: dict[Colour, int] = {}
    with_ids: list[bool] = []
    for place, line in _numbered_lines(text, origin):
        ids, name, colour = _parse_line(line, place)
        train_id = IGNORE_LABEL
        if name != "ignore":
            if colour is None:
                raise ValueError(
                    f"{place}: {line!r} is not `name r g b` with colours 0-255"
                )
            if name in names:
                raise ValueError(f"{place}: class {name!r} occurs twice")
            train_id = len(names)
            with_ids.append(bool(ids))
            if with_ids[0] != with_ids[-1]:
                raise ValueError(f"{place}: give ids for every class, or for none")
            ids = ids or [train_id]
            names.append(name)
            palette.append(colour)
        for raw_id in ids:
            if raw_id in raw_to_train:
                raise ValueError(f"{place}: id {raw_id} occurs twice")
            raw_to_train[raw_id] = train_id
        if colour is not None:
            # Two classes of one colour cannot be told apart.
            colour_labels &= colour not in colour_to_train
            colour_to_train[colour] = train_id
    if not names:
        raise ValueError(f"{origin}: no classes; write one a line, `name r g b`")
    raw_to_train.setdefault(IGNORE_LABEL, IGNORE_LABEL)
    return ClassTable(
        tuple(names),
        tuple(palette),
        raw_to_train,
        colour_to_train if colour_labels else {},
    )


def _numbered_lines(text: str, origin: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield f"{origin}:{number}", line.strip()


_LINE = re.compile(
    r"((?P<ids>\d[\d\s,-]*):)?\s*(?P<name>.*?)(?P<colour>(\s+\d+){3})?", re.ASCII
)
_IDS = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", re.ASCII)


def _parse_line(line: str, place: str) -> tuple[list[int], str, Colour | None]:
    match = _LINE.fullmatch(line)
    assert match  # a line without ids and colour is all name
    ids = list(_parse_ids(match["ids"], place)) if match["ids"] else []
    if match["colour"] is None:
        return ids, match["name"], None
    red, green, blue = map(int, match["colour"].split())
    if max(red, green, blue) > 255:
        raise ValueError(f"{place}: {line!r} is not `name r g b` with colours 0-255")
    return ids, match["name"], (red, green, blue)


def _parse_ids(text: str, place: str) -> Iterator[int]:
    for part in text.split(","):
        match = _IDS.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= 255:
            raise ValueError(
                f"{place}: {part.strip()!r} in {text!r} is no id, as 7, and no range of"
                " ids, as 7-9, within 0-255"
            )
        yield from range(first, last + 1)


def _listing(items: Iterable[str]) -> str:
    shown = list(items)
    return ", ".join(shown[:_NUM_SHOWN]) + ", …" * (len(shown) > _NUM_SHOWN)


def _ranges(ids: Iterable[int]) -> str:
    """Writes {-1, 0, 1, 2, 255} as "-1..2, 255"."""
    runs: list[list[int]] = []
    for i in sorted(ids):
        if runs and i == runs[-1][-1] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return ", ".join(f"{r[0]}..{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)
