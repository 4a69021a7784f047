"""A page about a dataset: one HTML file that needs nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from segnext_jax.visual.examples import Example, draw_label
from segnext_jax.visual.page import heading, hex_color, page, picture, swatch
from segnext_jax.visual.tables import count_of

_NUM_OPEN = 20  # messages shown before one has to click

Report = Mapping[str, Any]


def dataset_page(report: Report, samples: Mapping[str, Sequence[Example]]) -> str:
    """Returns HTML: problems, sizes, classes with their colours, and samples.

    Args:
      report: what tools/check_dataset.py writes into report.json.
      samples: images with labels, by split; their captions are the names of files.
    """
    palette = [row["color"] for row in report["classes"]]
    body = [
        heading(report["source"], report["root"]),
        _verdict(report),
        *_messages("problem", report["problems"]),
        *_messages("warning", report["warnings"]),
        _split_table(report),
        _class_table(report),
        f"<h2>Suggested class weights</h2><pre>{escape(report['flag'])}</pre>",
        f"<p class=note>{escape(report['rule'])}</p>",
        *(_figures(split, examples, palette) for split, examples in samples.items()),
    ]
    return page(f"Dataset {report['source']}", body, _STYLE)


def _verdict(report: Report) -> str:
    num_problems, num_warnings = len(report["problems"]), len(report["warnings"])
    checked = sum(split["checked"] for split in report["splits"].values())
    kind = "bad" if num_problems else "good"
    return (
        f'<p class="verdict {kind}">{checked:,} images checked:'
        f" {count_of(num_problems, 'problem')},"
        f" {count_of(num_warnings, 'warning')}</p>"
    )


def _messages(kind: str, rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    items = [
        f"<li><b>{escape(row['split'])}, {escape(row['kind'])}</b>"
        f" {escape(row['message'])}</li>"
        for row in rows
    ]
    if items:
        yield f'<h2>{kind.title()}s</h2><ul class="{kind}">'
        yield from items[:_NUM_OPEN]
        if rest := items[_NUM_OPEN:]:
            yield f"<details><summary>{len(rest):,} more</summary>"
            yield from rest
            yield "</details>"
        yield "</ul>"


def _split_table(report: Report) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}<td>{split['images']:,}<td>{split['checked']:,}"
        f"<td>{100 * split['void']:.2f}<td>{split['problems']:,}"
        f"<td class=text>{_sizes(split['sizes'])}"
        for name, split in report["splits"].items()
    )
    return (
        "<h2>Splits</h2><div class=scroll><table><tr><th>split<td>images<td>checked"
        "<td>void %<td>problems<td class=text>sizes (height × width)"
        f"{rows}</table></div>"
    )


def _sizes(sizes: Sequence[Mapping[str, int]]) -> str:
    shown = [f"{s['height']} × {s['width']} ({s['images']:,})" for s in sizes[:6]]
    more = [f"{len(sizes) - 6:,} other sizes"] if len(sizes) > 6 else []
    return ", ".join(shown + more)


def _class_table(report: Report) -> str:
    splits = list(report["splits"])
    shares = [row["splits"][s]["share"] for row in report["classes"] for s in splits]
    largest = max(shares, default=0.0) or 1.0
    heads = "".join(
        f"<td class=text>{escape(split)}: pixels %<td>images" for split in splits
    )
    rows = []
    for row in report["classes"]:
        color = hex_color(row["color"])
        cells = [
            f"<tr><td>{row['train_id']}<th>{swatch(row['color'])}{escape(row['name'])}"
        ]
        for split in splits:
            part = row["splits"][split]
            width = 100 * part["share"] / largest
            empty = "" if part["images"] else " class=empty"
            cells.append(
                f"<td class=bar><b style='width:{width:.2f}%;background:{color}'></b>"
                f"<span>{100 * part['share']:.3f}</span><td{empty}>{part['images']:,}"
            )
        rows.append("".join([*cells, f"<td>{row['weight']:g}"]))
    return (
        f"<h2>Classes</h2><div class=scroll><table><tr><td>id<th>class{heads}<td>weight"
        f"{''.join(rows)}</table></div>"
    )


def _figures(split: str, examples: Sequence[Example], palette) -> str:
    figures = "".join(
        f"<figure><div>{picture(example.image)}"
        f"{picture(draw_label(example, palette))}</div>"
        f"<figcaption>{escape(example.caption)}</figcaption></figure>"
        for example in examples
    )
    return (
        f"<h2>Samples of {escape(split)}</h2>"
        "<p class=note>In the colours of their labels at the right; void hatched.</p>"
        f"<div class=samples>{figures}</div>"
    )


_STYLE = """
ul { list-style: none; margin: 0; padding: 0 }
li { border-left: 4px solid; padding: .15rem .8rem; margin: .3rem 0;
     overflow-wrap: anywhere }
ul.problem li { border-color: #d33a2c } ul.warning li { border-color: #e0a018 }
td.empty { color: #d33a2c; font-weight: 700 }
"""
