"""A page as a browser sees it, for the tests of pages."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
from PIL import Image

# Need no end, or may go without, in HTML.
_VOID = {"meta", "img"}
_OPTIONAL = {"td", "th", "tr", "li"}


class Page(HTMLParser):
    """Elements with attributes; raises for an end that nothing began."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID | _OPTIONAL:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in _OPTIONAL:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def files(self, kind):
        """Contents of the pictures of a type, e.g. "image/png"."""
        sources = [attrs["src"] for tag, attrs in self.elements if tag == "img"]
        assert all(source.startswith("data:image/") for source in sources)
        start = f"data:{kind};base64,"
        return [
            base64.b64decode(source.removeprefix(start))
            for source in sources
            if source.startswith(start)
        ]

    def photos(self):
        """Its JPEGs, uint8 [h w 3]."""
        files = self.files("image/jpeg")
        return [np.asarray(Image.open(io.BytesIO(file))) for file in files]


def check(text):
    """Asserts that a page is well-formed, safe, and needs no other file."""
    page = Page(text)
    assert page.open == []
    assert not any(tag in ("script", "link", "iframe") for tag, _ in page.elements)
    assert "http" not in text.replace("http://www.w3.org", "")
    assert ("meta", "viewport") in [(t, a.get("name")) for t, a in page.elements]
    return page
