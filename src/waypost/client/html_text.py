"""The text of HTML for a person without a browser: no scripts, no styles, a line for each block.

It is no HTML parser: one pass over the tags, in linear time, whatever is malformed. Python's own takes time that grows
with the square of the length for markup that does not end, and fails on some.
"""

import html
import re

_SILENT = frozenset({"script", "style", "head", "title"})
_BLOCKS = frozenset({"p", "div", "br", "tr", "li", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "table"})
_NAME = re.compile(r"/?[A-Za-z][A-Za-z0-9]*+")
_SPACE = re.compile(r"\s++")
_ZEROS = re.compile(r"(&#[xX]?)0++")
_LONG_REFERENCE = re.compile(r"&#[xX]?0*+([0-9A-Fa-f]{8})[0-9A-Fa-f]*+")


def text_of_html(source: str) -> str:
    """Return the text of an HTML document, its entities resolved, with a line end behind it."""
    pieces: list[str] = []
    silent, position = 0, 0
    while position < len(source):
        begin = source.find("<", position)
        if begin < 0:
            begin = len(source)
        if not silent and begin > position:
            pieces.append(_words(source[position:begin]))
        name, position = _tag(source, begin)
        if name.removeprefix("/") in _SILENT:
            silent = max(0, silent - 1) if name.startswith("/") else silent + 1
        elif not silent and name == "<":
            pieces.append(name)
        elif not silent and (name in _BLOCKS or name == "/p"):
            pieces.append("\n")
    lines = [" ".join(line.split()) for line in "".join(pieces).split("\n")]
    kept = [line for index, line in enumerate(lines) if line or (index and lines[index - 1])]
    return "\n".join(kept).strip() + "\n"


def _tag(source: str, begin: int) -> tuple[str, int]:
    """Return the name of the tag that begins here, in lower case, with its slash, and where it ends.

    "<" is no tag but text; "" is a comment or a declaration. One that does not end takes all that follows.
    """
    if source.startswith("<!--", begin):
        end = source.find("-->", begin + 4)
        return "", end + 3 if end >= 0 else len(source)
    match = _NAME.match(source, begin + 1)
    if match is None and not source.startswith(("<!", "<?", "</"), begin):
        return "<" if begin < len(source) else "", begin + 1
    end = source.find(">", begin)
    return match[0].lower() if match else "", end + 1 if end >= 0 else len(source)


def _words(text: str) -> str:
    return html.unescape(_LONG_REFERENCE.sub("\N{REPLACEMENT CHARACTER}", _ZEROS.sub(r"\g<1>0", _SPACE.sub(" ", text))))
