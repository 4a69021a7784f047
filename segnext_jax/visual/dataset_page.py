"""A page about a dataset: one HTML file that needs nothing else."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from segnext_jax.visual.examples import Example, draw_label
from segnext_jax.visual.tables import count_of

_THUMBNAIL = 480  # pixels, the longer side
_JPEG_QUALITY = 85
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
        f"<h1>{escape(report['source'])} <small>{escape(report['root'])}</small></h1>",
        _verdict(report),
        *_messages("problem", report["problems"]),
        *_messages("warning", report["warnings"]),
        _split_table(report),
        _class_table(report),
        f"<h2>Suggested class weights</h2><pre>{escape(report['flag'])}</pre>",
        f"<p class=note>{escape(report['rule'])}</p>",
        *(_figures(split, examples, palette) for split, examples in samples.items()),
    ]
    title = escape(f"Dataset {report['source']}")
    return (
        f"<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>"
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


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
        "<h2>Splits</h2><table><tr><th>split<td>images<td>checked<td>void %"
        f"<td>problems<td class=text>sizes (height × width){rows}</table>"
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
        color = _hex(row["color"])
        cells = [
            f"<tr><td>{row['train_id']}<th><i style='background:{color}'></i>"
            f"{escape(row['name'])}"
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
        f"<h2>Classes</h2><table class=classes><tr><td>id<th>class{heads}<td>weight"
        f"{''.join(rows)}</table>"
    )


def _figures(split: str, examples: Sequence[Example], palette) -> str:
    figures = "".join(
        f"<figure><div><img alt='' src='{_data_uri(example.image)}'>"
        f"<img alt='' src='{_data_uri(draw_label(example, palette))}'></div>"
        f"<figcaption>{escape(example.caption)}</figcaption></figure>"
        for example in examples
    )
    return (
        f"<h2>Samples of {escape(split)}</h2>"
        "<p class=note>In the colours of their labels at the right; void hatched.</p>"
        f"<div class=samples>{figures}</div>"
    )


def _data_uri(picture: np.ndarray) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _hex(color: Sequence[int]) -> str:
    return "#" + bytes(color).hex()


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 1240px; margin: 2rem auto; padding: 0 1.5rem }
h1 { font-size: 1.6rem } h1 small { color: #777; font-weight: normal; font-size: 60% }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
.verdict { padding: .6rem 1rem; border-radius: 6px; font-weight: 600 }
.good { background: #e7f5ea; color: #1c6b30 }
.bad { background: #fdebea; color: #a02018 }
ul { list-style: none; margin: 0; padding: 0 }
li { border-left: 4px solid; padding: .15rem .8rem; margin: .3rem 0;
     overflow-wrap: anywhere }
ul.problem li { border-color: #d33a2c } ul.warning li { border-color: #e0a018 }
table { border-collapse: collapse } tr:first-child { color: #777 }
tr:first-child th { font-weight: normal }
th, td { padding: .2rem .9rem .2rem 0; text-align: right; white-space: nowrap;
         border-bottom: 1px solid #eee; font-variant-numeric: tabular-nums }
th, td.text { text-align: left } td.text { white-space: normal } th { font-weight: 600 }
th i { display: inline-block; width: 1.1em; height: .9em; margin-right: .5em;
       border: 1px solid #0004; vertical-align: -1px }
td.bar { width: 240px; text-align: left }
td.bar b { display: inline-block; height: .75em; min-width: 1px; max-width: 165px;
           border-radius: 2px; margin-right: .4em }
td.bar span { color: #666 } td.empty { color: #d33a2c; font-weight: 700 }
pre { background: #f5f5f5; padding: .7rem 1rem; border-radius: 6px; overflow-x: auto;
      white-space: pre-wrap; overflow-wrap: anywhere }
.note { color: #777; font-size: 90% }
.samples { display: flex; flex-wrap: wrap; gap: 18px }
figure { margin: 0; flex: 0 1 calc(50% - 9px); min-width: 360px }
figure div { display: flex; gap: 3px }
figure img { width: 50%; min-width: 0; object-fit: contain; object-position: top }
figcaption { color: #777; font-size: 85%; overflow-wrap: anywhere }
"""
