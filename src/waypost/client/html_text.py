"""The text of HTML for a person without a browser: a line for each block, and the target of each link.

`justhtml` reads the markup, as HTML5 defines it, in one pass without a tree: with a tree, the time for nested tags
would grow with the square of their number. Scripts, styles and comments are not shown, as in a browser.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from justhtml import stream

MOST_CHARACTERS = 1 << 20
"""The most characters of a document that are read: some seconds of work at worst."""

_SILENT = frozenset({"script", "style", "title", "iframe"})
_BLOCKS = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "div", "dl", "dt"),
        *("fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr"),
        *("legend", "li", "main", "nav", "ol", "option", "p", "pre", "section", "summary", "table", "tbody", "tfoot"),
        *("thead", "tr", "ul"),
    }
)
_PARAGRAPHS = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "pre"})
_CELLS = frozenset({"td", "th"})
_CELL = "\0"  # separates cells; it does not occur in the text of HTML
_MOST_READINGS = 4
_LONGEST_LINK = 2000
_ZEROS = re.compile(r"(&#[xX]?)0++")
_LONG_REFERENCE = re.compile(r"&#(?:[xX][0-9A-Fa-f]{9}[0-9A-Fa-f]*+|[0-9]{9}[0-9]*+)")
_MARKUP = re.compile(r"<[A-Za-z/!]")
_META_CHARSET = re.compile(rb"<meta\b[^>]{0,500}?\bcharset\s*=\s*[\"']?\s*([A-Za-z0-9_.:+-]{1,40})", re.IGNORECASE)
_WHERE_META_STANDS = 4096  # octets; HTML asks for 1024


def text_of_html(source: str) -> str:
    """Return the text of an HTML document, its entities resolved, with a line end after it."""
    # Character references with thousands of digits name no character, and are slow to read.
    short = _LONG_REFERENCE.sub("\N{REPLACEMENT CHARACTER}", _ZEROS.sub(r"\g<1>0", source[:MOST_CHARACTERS]))
    writer = _Writer()
    for kind, data in _events(short):
        if kind == "text":
            writer.text(data)
        elif kind == "start":
            writer.start(data[0], data[1])
        else:
            writer.end(data)
    return writer.finish()


def charset_of_html(octets: bytes) -> str | None:
    """Return the charset that a document names in its `<meta>`, or by its byte order mark; None when it names none."""
    if octets.startswith(b"\xef\xbb\xbf"):
        return "utf-8"
    if octets.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    match = _META_CHARSET.search(octets[:_WHERE_META_STANDS])
    if match is None:
        return None
    charset = match[1].decode()
    return "utf-8" if charset.lower().startswith("utf-16") else charset  # in UTF-16 the tag itself could not be read


def _events(source: str) -> Iterator[tuple[str, Any]]:
    """Yield the tags and texts of a document.

    The text of some elements (title, style) is not markup. Without its end tag, such an element would take in the whole
    rest. If that rest looks like markup, it is the message, and is read as markup.
    """
    for _ in range(_MOST_READINGS):
        opened, rest = "", ""
        for kind, data in cast(Iterator[tuple[str, Any]], stream(source)):
            if kind == "start":
                opened, rest = data[0], ""
            elif kind == "text" and opened in _SILENT:
                rest = data
            elif kind == "end":
                opened, rest = "", ""
            if kind in ("start", "end", "text"):
                yield kind, data
        if not _MARKUP.search(rest):
            return
        yield "end", opened
        source = rest


class _Writer:
    """Gathers the lines of a text."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._line: list[str] = []
        self._silent = False
        self._pre = 0
        self._link = ""  # the target of the link that is open
        self._label: list[str] = []

    def text(self, text: str) -> None:
        """Add text."""
        if self._silent:
            return
        if self._link:
            self._label.append(text)
        text = text.replace(_CELL, "")
        if not self._pre:
            self._line.append(text)
            return
        *whole, last = text.split("\n")
        for line in whole:
            self._line.append(line)
            self._break()
        self._line.append(last)

    def start(self, tag: str, attributes: Mapping[str, str | None]) -> None:
        """A tag begins an element."""
        if tag in _SILENT:
            self._silent = True
        elif tag == "br":
            self._break()
        elif tag in _CELLS:
            self._line.append(_CELL)
        elif tag in _BLOCKS:
            self._fresh_line()
            if tag in _PARAGRAPHS and self._lines:
                self._break()
            self._pre += tag == "pre"
        elif tag == "a":
            self._leave_link()
            self._link = "".join((attributes.get("href") or "").split())[:_LONGEST_LINK]
        elif tag == "img" and (attributes.get("alt") or "").strip():
            self.text(f"[{attributes['alt']}]")

    def end(self, tag: str) -> None:
        """A tag ends an element."""
        if tag in _SILENT:
            self._silent = False
        elif tag in _BLOCKS:
            self._fresh_line()
            self._pre = max(0, self._pre - (tag == "pre"))
        elif tag == "a":
            self._leave_link()

    def finish(self) -> str:
        """Return the text, without more than one blank line in a row."""
        self._leave_link()
        self._break()
        lines = self._lines
        kept = [line for index, line in enumerate(lines) if line or (index and lines[index - 1])]
        return "\n".join(kept).strip("\n") + "\n"

    def _leave_link(self) -> None:
        """Add the target of a link, unless its text names it."""
        link, label = self._link, " ".join("".join(self._label).split())
        self._link, self._label = "", []
        if not link or link.startswith("#") or label in (link, link.removeprefix("mailto:")):
            return
        told = f" <{link}>"
        if self._lines and not "".join(self._line).strip():
            self._lines[-1] += told if self._lines[-1] else told[1:]
        else:
            self._line.append(told)

    def _fresh_line(self) -> None:
        if "".join(self._line).strip(_CELL + " \t\r\n\f\xa0"):
            self._break()
        else:
            self._line.clear()

    def _break(self) -> None:
        line = "".join(self._line)
        self._line.clear()
        if self._pre:
            self._lines.append(line.replace(_CELL, "  ").rstrip())
            return
        cells = (" ".join(cell.split()) for cell in line.split(_CELL))
        self._lines.append("  ".join(cell for cell in cells if cell))
