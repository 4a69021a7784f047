"""What the pages share: one HTML file that needs nothing else, pictures inside."""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image

_THUMBNAIL = 480  # pixels, the longer side
_JPEG_QUALITY = 85


def page(title: str, body: Iterable[str], style: str = "") -> str:
    """Returns a document in the style of all pages.

    Args:
      title: plain text, for the browser's tab.
      body: HTML of the sections.
      style: CSS of this page alone.
    """
    return (
        "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def heading(title: str, subtitle: str = "") -> str:
    """The line that a page begins with, of plain texts."""
    small = f" <small>{escape(subtitle)}</small>" if subtitle else ""
    return f"<h1>{escape(title)}{small}</h1>"


def facts(rows: Mapping[str, str]) -> str:
    """A table of two columns, of plain texts."""
    return (
        "<table class=facts>"
        + "".join(
            f"<tr><th>{escape(name)}<td>{escape(value)}" for name, value in rows.items()
        )
        + "</table>"
    )


def picture(pixels: np.ndarray, max_side: int = _THUMBNAIL) -> str:
    """An <img> of uint8 [h w 3] RGB as JPEG, shrunk to `max_side` pixels."""
    image = Image.fromarray(pixels)
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_JPEG_QUALITY)
    return embed(file.getvalue(), "image/jpeg")


def embed(file: bytes, mime_type: str) -> str:
    """An <img> of the content of a file, e.g. of "image/svg+xml"."""
    return (
        f"<img alt='' src='data:{mime_type};base64,{base64.b64encode(file).decode()}'>"
    )


def swatch(color: Sequence[int]) -> str:
    """A patch of a class's colour, RGB 0..255, before its name."""
    return f"<i style='background:{hex_color(color)}'></i>"


def hex_color(color: Sequence[int]) -> str:
    return "#" + bytes(color).hex()


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 1240px; margin: 2rem auto; padding: 0 1.5rem }
h1 { font-size: 1.6rem } h1 small { color: #777; font-weight: normal; font-size: 60%;
     overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
.verdict { padding: .6rem 1rem; border-radius: 6px; font-weight: 600 }
.good { background: #e7f5ea; color: #1c6b30 }
.bad { background: #fdebea; color: #a02018 }
.scroll { overflow-x: auto }
table { border-collapse: collapse }
th, td { padding: .2rem .9rem .2rem 0; text-align: right; white-space: nowrap;
         border-bottom: 1px solid #eee; font-variant-numeric: tabular-nums }
th, td.text { text-align: left } td.text { white-space: normal } th { font-weight: 600 }
table:not(.facts) tr:first-child { color: #777 }
table:not(.facts) tr:first-child th { font-weight: normal }
.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere }
th i { display: inline-block; width: 1.1em; height: .9em; margin-right: .5em;
       border: 1px solid #0004; vertical-align: -1px }
td.bar { width: 240px; text-align: left }
td.bar b { display: inline-block; height: .75em; min-width: 1px; max-width: 165px;
           border-radius: 2px; margin-right: .4em }
td.bar span { color: #666 }
pre { background: #f5f5f5; padding: .7rem 1rem; border-radius: 6px; overflow-x: auto;
      white-space: pre-wrap; overflow-wrap: anywhere }
.note { color: #777; font-size: 90% }
.samples { display: flex; flex-wrap: wrap; gap: 18px }
figure { margin: 0; flex: 0 1 calc(50% - 9px); min-width: min(360px, 100%) }
figure div { display: flex; gap: 3px }
figure img { width: 50%; min-width: 0; object-fit: contain; object-position: top }
figcaption { color: #777; font-size: 85%; overflow-wrap: anywhere }
@media (max-width: 600px) { body { margin: 1rem auto; padding: 0 .8rem } }
"""
