"""The manuals as tests read them: pages, links, anchors and the commands in code blocks."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.M | re.S)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.M)
_STARTS = frozenset({"|", ";", "&&", "||", "--", "sudo"})
_ENDS = frozenset({"|", ";", "&&", "||", "&", ">", ">>", "<"})


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `name` is its path inside the repository."""

    name: str
    text: str

    @property
    def prose(self) -> str:
        """The text without its code blocks."""
        return _FENCE.sub("", self.text)

    @property
    def shell_blocks(self) -> list[str]:
        """The code blocks that are for a shell."""
        return [body for kind, body in _FENCE.findall(self.text) if kind == "sh"]

    @property
    def links(self) -> list[str]:
        """The targets of all links."""
        return _LINK.findall(self.prose)

    @property
    def anchors(self) -> set[str]:
        """What a link may name behind `#`."""
        return {anchor(heading) for heading in _HEADING.findall(self.prose)}

    def commands(self, program: str) -> Iterator[list[str]]:
        """Yield the arguments of every call of `program`: in shell blocks, and in the prose between backquotes."""
        for block in self.shell_blocks:
            for line in block.replace("\\\n", " ").splitlines():
                yield from _calls(line, program)
        for text in _INLINE.findall(self.prose):
            if text.startswith(f"{program} "):
                yield from _calls(text, program)


def _calls(line: str, program: str) -> Iterator[list[str]]:
    """Find the calls in one line; what stands before and behind them (pipes, variables, comments) is passed over."""
    words = _words(line)
    for position, word in enumerate(words):
        before = words[position - 1] if position else ""
        if word.rpartition("/")[2] == program and (not position or before in _STARTS or "=" in before):
            arguments = words[position + 1 :]
            ends = [number for number, argument in enumerate(arguments) if argument in _ENDS]
            yield arguments[: ends[0]] if ends else arguments


def _words(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    return list(lexer)


def anchor(heading: str) -> str:
    """Return the anchor of a heading, as GitHub and others make it."""
    kept = re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower())
    return kept.strip().replace(" ", "-")


def pages() -> list[Page]:
    """Return every page of the manuals."""
    paths = sorted((*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")))
    return [Page(str(path.relative_to(ROOT)), path.read_text()) for path in paths]
