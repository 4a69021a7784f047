"""Predictions as files."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from segnext_jax.visual.overlay import Palette, colorize, overlay
from segnext_jax.visual.prediction import add_legend

# What can be written of a prediction, and its kind of file.
SUFFIXES = {"labels": ".png", "colors": ".png", "overlay": ".jpg"}
_JPEG = dict(quality=92, subsampling=0)  # else the edges of the colours fray


class Results:
    """A folder with a folder for every kind of picture.

    labels   PNG of train ids, uint8
    colors   PNG of the same ids with the colours as its palette; a third of RGB's size
    overlay  JPEG of the colours over the image

    Args:
      folder: is made if need be.
      kinds: which of SUFFIXES to write.
      names: of the classes.
      palette: RGB colours 0..255, one for each name.
      opacity: of the colours in overlays, 0..1.
      legend: whether overlays have the names of their classes below the image.

    Raises ValueError for other kinds, or none.
    """

    def __init__(
        self,
        folder: str,
        kinds: Sequence[str],
        names: Sequence[str],
        palette: Palette,
        *,
        opacity: float = 0.5,
        legend: bool = False,
    ):
        unknown = [kind for kind in kinds if kind not in SUFFIXES]
        if unknown or not kinds:
            raise ValueError(
                f"cannot write {', '.join(map(repr, unknown)) or 'nothing'}: choose of"
                f" {', '.join(SUFFIXES)}"
            )
        self.folder, self.kinds = folder, tuple(kinds)
        self._names, self._palette = names, palette
        self._opacity, self._legend = opacity, legend

    def path(self, kind: str, name: str, suffix: str) -> str:
        """The file for a result; makes its folder."""
        path = os.path.join(self.folder, kind, name + suffix)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def save(self, name: str, image: np.ndarray, pred: np.ndarray) -> None:
        """Writes what is to be known of an image.

        Args:
          name: relative path of the image, without suffix.
          image: uint8 [h w 3] RGB.
          pred: uint8 [h w] train ids.

        Raises OSError. What was there before is replaced, by whole files.
        """
        for kind in self.kinds:
            path = self.path(kind, name, SUFFIXES[kind])
            if kind == "overlay":
                picture = self.draw(kind, image, pred, np.unique(pred).tolist())
                _save(path, Image.fromarray(picture), "JPEG", **_JPEG)
            else:
                ids = Image.fromarray(pred)
                if kind == "colors":
                    ids.putpalette(bytes(np.asarray(self._palette, np.uint8)))
                _save(path, ids, "PNG")

    def draw(
        self, kind: str, image: np.ndarray, pred: np.ndarray, ids: Sequence[int]
    ) -> np.ndarray:
        """Returns colors or an overlay, uint8 [h w 3], the latter higher by a legend.

        Args:
          kind: "colors" or "overlay".
          image, pred: as for `save`.
          ids: classes in the legend.
        """
        if kind == "colors":
            return colorize(pred, self._palette)
        picture = overlay(image, pred, self._palette, self._opacity)
        if self._legend:
            return add_legend(picture, ids, self._names, self._palette)
        return picture


def _save(path: str, image: Image.Image, file_format: str, **options: Any) -> None:
    folder, name = os.path.split(path)
    partial = os.path.join(folder, f".partial-{name}")
    image.save(partial, file_format, **options)
    os.replace(partial, path)
