"""Chooses the parts of a message that a person reads, and lists the names of the others.

Inline text is shown in its place (RFC 2183 section 2, RFC 2046 5.1.3); of alternatives, the one that a terminal shows
best is shown (RFC 2046 5.1.4). A part that is not shown is listed with its name, type and size.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from waypost.client.html_text import MOST_CHARACTERS, charset_of_html, text_of_html
from waypost.counting import counted
from waypost.message.charset import decode_charset, decode_undeclared
from waypost.message.decoded_words import decode_value
from waypost.message.headers import HeaderBlock
from waypost.message.structure import Part, scan_structure
from waypost.message.transfer_encoding import decode_transfer

_MESSAGES = frozenset({"message/rfc822", "message/global"})
_DEEPEST = 5  # how deep encoded messages may be nested
_TWINS = frozenset({"text/plain", "text/html"})  # the same text twice, as alternatives
_BLANK = re.compile(r"[\s\u00ad\u200b-\u200f\u2060-\u2064\ufeff]*+\Z")  # white space, and characters without width
_SEPARATOR = "---------- a message within this one ----------\n"

HeaderText = Callable[[bytes], str]
"""Returns the header of an enclosed message as text for people."""


@dataclass(slots=True)
class Shown:
    """The result: texts in order, and the names of the listed parts."""

    texts: list[str] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    html: bool = False
    """True when one of the texts was HTML."""
    plain: bool = False
    """True when one of the texts was not HTML."""
    cut: bool = False
    """True when HTML was too long to be read as a whole."""

    @property
    def text(self) -> str:
        """All texts, each beginning on a new line."""
        whole = (text if text.endswith("\n") else text + "\n" for text in self.texts[:-1])
        return "".join([*whole, *self.texts[-1:]])


def shown_parts(content: bytes, root: Part, header_text: HeaderText) -> Shown:
    """Return the texts and listed parts of a message."""
    shown = Shown()
    _Reader(content, shown, header_text, 0).show(root)
    return shown


class _Reader:
    """Walks through the parts of one content."""

    def __init__(self, content: bytes, shown: Shown, header_text: HeaderText, depth: int) -> None:
        self._content = content
        self._shown = shown
        self._header_text = header_text
        self._depth = depth
        self._texts: dict[tuple[int, int], str] = {}
        self._ranks: dict[tuple[int, int], int] = {}

    def show(self, part: Part) -> None:
        """Show a part, or list it."""
        if part.is_message:
            if _is_attached(part):
                self._list(part)
            self._show_message(part.parts[0])
        elif not part.is_multipart:
            self._show_leaf(part)
        elif part.content_type.value == "multipart/alternative":
            self._show_best(part.parts)
        elif part.content_type.value == "multipart/related":
            root = self._root_of(part)
            self.show(root)
            for other in part.parts:  # the parts that the root refers to
                if other is not root:
                    self.show(other) if other.content_type.value == "text/plain" else self._list_leaves(other)
        elif part.content_type.value == "multipart/report":
            self.show(part.parts[0])
            for other in part.parts[1:]:  # the fields for programs, and the returned message (RFC 6522)
                self._list_leaves(other)
        else:
            for each in part.parts:
                self.show(each)

    def _root_of(self, related: Part) -> Part:
        """Return the part that the others belong to: the first one, unless `start` names another (RFC 2387 3.2)."""
        start = related.content_type.get("start")
        if start:
            for part in related.parts:
                header = HeaderBlock(self._content[part.start : part.body])
                if (header.get(b"content-id") or b"").strip(b"<>") == start.strip(b"<>"):
                    return part
        return related.parts[0]

    def _show_best(self, parts: Sequence[Part]) -> None:
        best = max(range(len(parts)), key=lambda index: (self._rank(parts[index]), index))
        self.show(parts[best])
        for index, other in enumerate(parts):
            if index != best:
                self._list_leaves(other, but=_TWINS)

    def _rank(self, part: Part) -> int:
        """How well a terminal shows an alternative: plain text best, then HTML, then any text."""
        return max(map(self._rank_of_leaf, part.leaves()), default=0)

    def _rank_of_leaf(self, leaf: Part) -> int:
        known = self._ranks.get((leaf.body, leaf.end))
        if known is None:
            known = self._ranks[leaf.body, leaf.end] = self._judged(leaf)
        return known

    def _judged(self, leaf: Part) -> int:
        kind, major = leaf.content_type.value, leaf.content_type.major
        if major not in ("text", "message") or _is_attached(leaf):
            return 0
        if kind == "text/plain":
            return 0 if _BLANK.match(self._text(leaf)) else 3
        octets = self._content[leaf.body : leaf.end]
        return 0 if not octets or octets.isspace() else 2 if kind == "text/html" else 1

    def _show_leaf(self, part: Part) -> None:
        kind, major = part.content_type.value, part.content_type.major
        if kind in _MESSAGES and self._depth < _DEEPEST:  # encoded, against RFC 2046 5.2.1
            if _is_attached(part):
                self._list(part)
            inner = decode_transfer(self._content[part.body : part.end], part.encoding)
            reader = _Reader(inner, self._shown, self._header_text, self._depth + 1)
            reader._show_message(scan_structure(inner).root)
        elif major == "text" and not _is_attached(part):
            text = self._text(part)
            if text.strip():
                self._add(text, html=kind == "text/html")
            elif _file_name(part) is not None:
                self._list(part)
        elif major == "multipart":  # its parts could not be found
            self._add(decode_undeclared(self._content[part.body : part.end]).replace("\r\n", "\n"))
        else:
            self._list(part)

    def _show_message(self, message: Part) -> None:
        header = self._header_text(self._content[message.start : message.body])
        self._shown.texts.append(f"{_SEPARATOR}{header}\n")
        self.show(message)

    def _add(self, text: str, *, html: bool = False) -> None:
        self._shown.texts.append(text)
        self._shown.html |= html
        self._shown.plain |= not html

    def _list_leaves(self, part: Part, but: frozenset[str] = frozenset()) -> None:
        for leaf in part.leaves():
            if _is_attached(leaf) or leaf.content_type.value not in but:
                self._list(leaf)

    def _list(self, part: Part) -> None:
        name = _file_name(part)
        shown = decode_value(name.encode("utf-8", "replace")) if name else "without a name"
        size = len(decode_transfer(self._content[part.body : part.end], part.encoding))
        self._shown.listed.append(f"{shown} ({part.content_type.value}, {counted(size, 'octet')})")

    def _text(self, part: Part) -> str:
        known = self._texts.get((part.body, part.end))
        if known is None:
            known = self._texts[part.body, part.end] = self._decoded(part)
        return known

    def _decoded(self, part: Part) -> str:
        octets = decode_transfer(self._content[part.body : part.end], part.encoding)
        charset = part.content_type.text("charset")
        html = part.content_type.value == "text/html"
        if html and not charset:
            charset = charset_of_html(octets)
        text = decode_charset(octets, charset) if charset else decode_undeclared(octets)
        if not html:
            return text.replace("\r\n", "\n")
        self._shown.cut |= len(text) > MOST_CHARACTERS
        return text_of_html(text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}"))


def _is_attached(part: Part) -> bool:
    """True for a part that is shown only on request; so is one of unknown disposition (RFC 2183 2.8)."""
    return part.disposition is not None and part.disposition.value != "inline"


def _file_name(part: Part) -> str | None:
    """Return the file name that a part asks for; it may be any text, and must not be used as a path."""
    if part.disposition is not None and (name := part.disposition.text("filename")) is not None:
        return name
    return part.content_type.text("name")
