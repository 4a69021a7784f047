"""Pictures and tables for people: overlays, panels, curves, scores by class."""

from segnext_jax.visual.overlay import (
    colorize,
    mosaic,
    overlay,
    panel,
    save_predictions,
)
from segnext_jax.visual.plots import plot_curves
from segnext_jax.visual.tables import per_class_table

__all__ = [
    "colorize",
    "mosaic",
    "overlay",
    "panel",
    "per_class_table",
    "plot_curves",
    "save_predictions",
]
