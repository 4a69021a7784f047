"""A page about a training run: one HTML file that needs nothing else."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from segnext_jax.visual.page import embed, facts, heading, page
from segnext_jax.visual.plots import History, draw_curves
from segnext_jax.visual.score_sections import STYLE, score_tiles

_STYLE = """
.curves { display: flex; flex-wrap: wrap; gap: 12px }
.curves img { width: 560px; max-width: 100% }
.columns { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: flex-start }
summary { cursor: pointer; margin: 2.2rem 0 .6rem; font-size: 1.15rem;
          font-weight: 600 }
"""


class Run(NamedTuple):
    """What a page says of a run, in words."""

    title: str
    root: str  # of the data
    scores: Mapping[str, str]
    facts: Mapping[str, str]
    environment: Mapping[str, str]
    config: Mapping[str, Any]


def run_page(run: Run, history: History, sections: Sequence[str]) -> str:
    """Returns HTML: scores, curves, the task's sections, environment and config.

    Args:
      run: texts.
      history: see `plots.plot_curves`.
      sections: HTML of what only the task knows.
    """
    curves = "".join(embed(svg, "image/svg+xml") for svg in draw_curves(history))
    config = escape(json.dumps(run.config, indent=2))
    body = [
        heading(run.title, run.root),
        score_tiles(run.scores),
        f"<h2>Curves</h2><div class=curves>{curves}</div>",
        *sections,
        f"<div class=columns><div><h2>Run</h2>{facts(run.facts)}</div>"
        f"<div><h2>Environment</h2>{facts(run.environment)}</div></div>",
        f"<details><summary>Config</summary><pre>{config}</pre></details>",
    ]
    return page(run.title, body, STYLE + _STYLE)
