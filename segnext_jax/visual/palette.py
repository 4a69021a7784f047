"""Colours of a person's choice for the classes of a checkpoint."""

from collections.abc import Sequence

from segnext_jax.visual.overlay import Palette


def match_palette(
    names: Sequence[str],
    given_names: Sequence[str],
    given_palette: Palette,
    origin: str,
) -> list[tuple[int, ...]]:
    """Returns a palette's colours, RGB 0..255, in the order of the classes.

    Args:
      names: of the classes.
      given_names, given_palette: what the palette has, in any order.
      origin: where the palette is from, for messages.

    Raises ValueError unless the palette has a colour for each class, and no other.
    """
    if len(given_names) != len(names):
        raise ValueError(
            f"{origin} has {len(given_names)} colours, but the checkpoint has"
            f" {len(names)} classes: {', '.join(names)}"
        )
    unknown = [name for name in given_names if name not in names]
    if unknown:
        missing = [name for name in names if name not in given_names]
        raise ValueError(
            f"{origin} has colours for {', '.join(unknown)}, which the checkpoint does"
            f" not know, and none for its {', '.join(missing)}"
        )
    colours = dict(zip(given_names, given_palette, strict=True))
    return [tuple(colours[name]) for name in names]
