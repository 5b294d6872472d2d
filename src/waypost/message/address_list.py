"""The address lists of header fields (RFC 5322 3.4 and 4.4, RFC 6854): From, Sender, and whoever else they name.

`parse_address_list` reads what the grammar allows, obsolete forms included, and a few common mistakes that leave no
doubt about the address; each mailbox says which of these it is. `mailboxes_of` takes the grammar only. Who may send as
whom is decided on what is read here, so a value that could be read as a different address is refused. The time is
linear in the length, whatever stands in it.
"""

import binascii
import re
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

_TOKEN = re.compile(
    rb"""(?P<space>[ \t]++)
    | (?P<quoted>"(?:[^"\\]++|\\.)*+")
    | (?P<literal>\[[^\[\]\\\s"()<>,;@]*+\])
    | (?P<special>[<>,;:@\\])
    | (?P<word>[^\s"()<>,;:@\\\[\]]++|[\[\]])""",
    re.VERBOSE | re.DOTALL,
)
_COMMENT_PIECE = re.compile(rb"[^()\\]++|\\.|[()]", re.DOTALL)
_ENCODED_WORD = re.compile(rb"=\?[^?\s]++\?([BbQq])\?([^?\s]*+)\?=")
_ENCODED_SPAN = re.compile(rb"=\?[^?]*+\?[^?]*+\?[^?]*+\?=")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_REMEMBERED = 256  # octets
_ATOMS = re.compile(rb"[^\s\"()<>,;:@\\\[\].]++(?:\.[^\s\"()<>,;:@\\\[\].]++)*+\Z")


class AddressListError(ValueError):
    """The value is no address list; the message says in plain words what is wrong with it."""


class Form(IntEnum):
    """How a mailbox is written, from good to bad; the worst in a list is that of the list."""

    PLAIN = 0
    ODD = 1  # as RFC 5322 allows, with comments, white space or a route inside of the address
    WRONG = 2  # against the grammar, and without doubt about the address


class Token(NamedTuple):
    """A piece of a value: its kind (`space`, `comment`, `quoted`, `literal`, `special`, `word`) and its octets."""

    kind: str
    text: bytes


class Mailbox(NamedTuple):
    """One mailbox. `address` is its addr-spec without comments, white space and route.

    `name` is what stands before the address, `after` the comments behind it.
    """

    name: tuple[Token, ...]
    address: bytes
    after: tuple[Token, ...]
    angle: bool
    form: Form


class Group(NamedTuple):
    """A group of RFC 5322 3.4: its name, and its members, which may be none."""

    name: tuple[Token, ...]
    members: tuple[Mailbox, ...]
    form: Form


AddressList = tuple[Mailbox | Group, ...]


def mailboxes_of(value: bytes) -> list[str]:
    """Return the addr-specs of an unfolded address list: `alice@example.org`, without names and comments.

    Groups are looked into; one without members has no mailboxes. Raises `AddressListError`.
    """
    parts = parse_address_list(value)
    if any(part.form is Form.WRONG for part in parts):
        raise AddressListError(f"{shown(value.strip())} is not written as RFC 5322 wants it")
    return addresses_in(parts)


def addresses_in(parts: AddressList) -> list[str]:
    """Return the addr-specs of a list that was read. Raises `AddressListError` for one that is not UTF-8."""
    found = []
    for part in parts:
        for mailbox in part.members if isinstance(part, Group) else (part,):
            try:
                found.append(mailbox.address.decode())
            except UnicodeDecodeError:
                raise AddressListError(f"{shown(mailbox.address)} is not UTF-8") from None
    return found


def parse_address_list(value: bytes) -> AddressList:
    """Read an unfolded address list. Raises `AddressListError` where the addresses are in doubt."""
    return _parse_again(value) if len(value) <= _REMEMBERED else _parse(value)


def _parse(value: bytes) -> AddressList:
    tokens = _tokens(value)
    return _with_groups(tokens) if _has_groups(tokens) else tuple(_mailboxes(_split(tokens)))


_parse_again = lru_cache(maxsize=1024)(_parse)  # people write their own name again and again


def encoded_word(text: bytes) -> bool:
    """True for one whole encoded word of RFC 2047."""
    return _ENCODED_WORD.fullmatch(text) is not None


def holds_an_at(name: bytes) -> bool:
    """True when an @ stands in quotes, or in an encoded word (RFC 2047), or one that can't be read."""
    if b"@" in name:
        return True
    for encoding, octets in _ENCODED_WORD.findall(name):
        try:
            decoded = binascii.a2b_base64(octets) if encoding in b"Bb" else binascii.a2b_qp(octets, header=True)
        except binascii.Error:
            return True
        if b"@" in decoded:
            return True
    return False


def unquoted(text: bytes) -> bytes:
    """Return what a quoted string or a comment says, without its marks and backslashes."""
    return _ESCAPED.sub(rb"\1", text[1:-1])


def shown(text: bytes) -> str:
    """Return the beginning of some octets for a message to people."""
    return repr(text[:60].decode("utf-8", "replace"))


def _tokens(value: bytes) -> list[Token]:
    tokens: list[Token] = []
    position = 0
    while position < len(value):
        if value[position : position + 1] == b"(":
            end = _comment_end(value, position)
            tokens.append(Token("comment", value[position:end]))
            position = end
            continue
        match = _TOKEN.match(value, position)
        if match is None:
            if value[position : position + 1] == b'"':
                raise AddressListError(f"a quote has no end: {shown(value[position:])}")
            raise AddressListError(f"something is wrong at {shown(value[position:])}")
        position = match.end()
        tokens.append(Token(match.lastgroup or "", match[0]))
    return tokens


def _comment_end(value: bytes, start: int) -> int:
    """Return where the comment that begins here ends; comments nest (RFC 5322 3.2.2)."""
    depth = 0
    for match in _COMMENT_PIECE.finditer(value, start):
        if match[0] == b"(":
            depth += 1
        elif match[0] == b")":
            depth -= 1
            if depth == 0:
                return match.end()
    raise AddressListError(f"a comment has no end: {shown(value[start:])}")


def _has_groups(tokens: Sequence[Token]) -> bool:
    """True when colons and semicolons stand by turns, as groups want them; elsewhere they are part of a name."""
    marks = [mark for mark in _outside_angles(tokens) if mark in (b":", b";")]
    return bool(marks) and marks == [b":", b";"] * (len(marks) // 2)


def _outside_angles(tokens: Sequence[Token]) -> list[bytes]:
    specials: list[bytes] = []
    inside = False
    for token in tokens:
        if token.kind == "special":
            inside = token.text == b"<" or (inside and token.text != b">")
            if not inside:
                specials.append(token.text)
    return specials


def _split(tokens: Sequence[Token], separators: bytes = b",") -> list[list[Token]]:
    """Return the pieces between separators that are not inside of angle brackets."""
    pieces: list[list[Token]] = [[]]
    inside = False
    for token in tokens:
        if token.kind == "special":
            inside = token.text == b"<" or (inside and token.text != b">")
            if not inside and token.text in separators:
                pieces.append([])
                continue
        pieces[-1].append(token)
    return pieces


def _with_groups(tokens: Sequence[Token]) -> AddressList:
    """Read a list in which every colon begins a group, and the next semicolon ends it."""
    parts: list[Mailbox | Group] = []
    blocks = _split(tokens, b";")
    for number, block in enumerate(blocks):
        pieces = _split(block, b":")
        before = _split(pieces[0])
        if number:  # behind a group come a comma or the end
            if _significant(before[0]):
                raise AddressListError(f"a comma is missing before {shown(_text(before[0]))}")
            before = before[1:]
        if len(pieces) == 1:
            if before:
                parts.extend(_mailboxes(before))
            break
        name = before.pop() if before else []
        if before:
            parts.extend(_mailboxes(before))
        parts.append(_group(name, pieces[1]))
    return tuple(parts)


def _group(name: list[Token], tokens: Sequence[Token]) -> Group:
    if not _significant(name):
        raise AddressListError("a colon stands where none may be: a group has a name")
    if any(token.kind == "special" for token in name):
        what = "holds an @ outside of quotes" if Token("special", b"@") in name else "can't be read"
        raise AddressListError(f"the name {shown(_text(name))} {what}")
    _check_brackets(name)
    _check_encoded(name)
    elements = [element for element in _split(tokens) if _significant(element)]  # RFC 5322 4.4: some may be empty
    members = tuple(_mailboxes(elements)) if elements else ()
    return Group(tuple(_trimmed(name)[1]), members, max((one.form for one in members), default=Form.PLAIN))


def _mailboxes(elements: Sequence[list[Token]]) -> list[Mailbox]:
    """Read the elements of a list. What has no address is the beginning of the next name: `Smith, Alice <a@x>`."""
    found: list[Mailbox] = []
    waiting: list[Token] = []
    wrong = False
    for element in elements:
        significant = _significant(element)
        if not any(token.kind == "special" and token.text in b"@<" for token in significant):
            if not significant and not waiting:
                wrong = True  # an empty element (RFC 5322 4.4)
                continue
            waiting += [*element, Token("special", b",")]
            continue
        if waiting and Token("special", b"<") not in element:
            break
        found.append(_mailbox([*waiting, *element]))
        waiting = []
    if waiting:
        raise AddressListError(f"{shown(_text(waiting[:-1]))} has no address")
    if not found:
        raise AddressListError("an address is missing")
    return [one._replace(form=Form.WRONG) for one in found] if wrong else found


def _mailbox(tokens: list[Token]) -> Mailbox:
    start = next((index for index, token in enumerate(tokens) if token == ("special", b"<")), None)
    if start is None:
        return _bare(tokens)
    end = next((index for index, token in enumerate(tokens) if token == ("special", b">")), None)
    name = _around(tokens[:start])
    inner = tokens[start + 1 : end]
    after = [] if end is None else tokens[end + 1 :]
    if end is not None and end < start:
        raise AddressListError(f"something is wrong at {shown(_text(tokens[end:]))}")
    if _significant(after):
        raise AddressListError(f"a comma is missing before {shown(_text(after))}")
    address, form = _angle_address(inner)
    if end is None:
        form = Form.WRONG
    if any(token.kind == "special" for token in name):
        form = Form.WRONG
    _check_name(name, address)
    _check_encoded(name, after)
    return Mailbox(tuple(name), address, _comments(after), True, form)


def _bare(tokens: list[Token]) -> Mailbox:
    """Read an address without angle brackets; a name before it lacks them by mistake: `"Alice" a@x`."""
    before, core, after = _trimmed(tokens)
    _check_encoded(before, core, after)
    spec = _addr_spec(core)
    if spec is not None:
        return Mailbox(_comments(before), spec[0], _comments(after), False, spec[1])
    ats = [index for index, token in enumerate(core) if token == ("special", b"@")]
    if len(ats) == 1 and ats[0] > 1 and core[ats[0] - 2].kind in ("space", "comment"):
        split = ats[0] - 1
        spec = _addr_spec(core[split:])
        name = _around([*before, *core[:split]])
        words = _significant(name)
        clear = words and not words[-1].text.endswith(b".") and all(token.kind != "special" for token in words)
        if clear and spec is not None and spec[1] is Form.PLAIN:
            _check_brackets(name)
            return Mailbox(tuple(name), spec[0], _comments(after), True, Form.WRONG)
    raise AddressListError(f"{shown(_text(tokens))} is no address")


def _angle_address(tokens: list[Token]) -> tuple[bytes, Form]:
    before, core, after = _trimmed(tokens)
    form = Form.ODD if before or after else Form.PLAIN
    if core and core[0] == ("special", b"@"):  # obs-route of RFC 5322 4.4
        colon = next((index for index, token in enumerate(core) if token == ("special", b":")), 0)
        for hop in _split(core[:colon]):
            if _significant(hop) and not re.fullmatch(rb"@[^@]+", _joined(hop)):
                raise AddressListError(f"the route {shown(_text(core[:colon]))} can't be read")
        form, core = Form.ODD, _trimmed(core[colon + 1 :])[1]
    spec = _addr_spec(core)
    if spec is None:
        text = _text(tokens)
        what = "is no address" if b"@" in text else "has no address"
        raise AddressListError(f"{shown(text)} {what}" if text else "an address is missing")
    return spec[0], max(form, spec[1])


def _addr_spec(tokens: Sequence[Token]) -> tuple[bytes, Form] | None:
    """Read an addr-spec with comments and white space between its parts (RFC 5322 3.4.1 and 4.4); else None."""
    at = [index for index, token in enumerate(tokens) if token == ("special", b"@")]
    if len(at) != 1:
        return None
    left, right = tokens[: at[0]], tokens[at[0] + 1 :]
    if not _dotted(left) or not _dotted(right):
        return None
    parts = _significant(left)
    form = Form.PLAIN if len(parts) + len(_significant(right)) + 1 == len(tokens) else Form.ODD
    local = _joined(left)
    if len(parts) > 1 and any(token.kind == "quoted" for token in parts):
        said = b"".join(unquoted(token.text) if token.kind == "quoted" else token.text for token in parts)
        local, form = _quoted(said), Form.ODD
    domain = _joined(right)
    if domain.endswith(b".") and not domain.endswith(b".."):
        domain, form = domain[:-1], Form.WRONG
    if b"=?" in local + b"@" + domain:
        raise AddressListError(f"{shown(local + b'@' + domain)} holds an encoded word, which an address may not")
    return local + b"@" + domain, form


def _dotted(tokens: Sequence[Token]) -> bool:
    """True for words and quoted strings of which each two have a dot between them, or for one domain literal."""
    parts = _significant(tokens)
    if len(parts) == 1 and parts[0].kind == "literal":
        return True
    if not parts or any(token.kind not in ("word", "quoted") for token in parts):
        return False
    return all(one.text.endswith(b".") or other.text.startswith(b".") for one, other in pairwise(parts))


def _quoted(said: bytes) -> bytes:
    """Return a local part as it is written, in quotes only where it must be."""
    if _ATOMS.match(said):
        return said
    return b'"' + re.sub(rb'(["\\])', rb"\\\1", said) + b'"'


def _check_name(name: Sequence[Token], address: bytes) -> None:
    """Refuse a name that holds an address other than the one beside it: which one a reader shows is anybody's guess.

    The same address again, or an @ that no full address is around, may stand there: in quotes it harms nobody.
    """
    words = _significant(name)
    for index, token in enumerate(words):
        if token != ("special", b"@"):
            continue
        left = words[index - 1].text if index else b""
        right = words[index + 1].text.rstrip(b".") if index + 1 < len(words) else b""
        full = b"." in right or right.startswith(b"[")
        if left and full and (left + b"@" + right).lower() != address.lower():
            raise AddressListError(f"the name {shown(_text(name))} holds an @ outside of quotes")
    _check_brackets(name)


def _check_brackets(name: Sequence[Token]) -> None:
    """Refuse `"alice@us"[ <bob@them>`: some readers count no quotes beside brackets."""
    plain = b"".join(token.text for token in name if token.kind in ("word", "literal"))
    if (b"[" in plain or b"]" in plain) and holds_an_at(_text(name)):
        raise AddressListError(f"the name {shown(_text(name))} holds an @ beside brackets")


def _check_encoded(*texts: Sequence[Token]) -> None:
    """Refuse an encoded word that begins in one part of a mailbox and has no end there.

    Some readers look for the end before they look for brackets: `"=?utf-8?q?" <?=a@x.test>` has no address for them.
    """
    for tokens in texts:
        text = b"".join(token.text for token in tokens)
        if b"=?" in text and b"=?" in _ENCODED_SPAN.sub(b"", text):
            raise AddressListError(f"an encoded word has no end: {shown(text)}")


def _significant(tokens: Sequence[Token]) -> list[Token]:
    """Return what is neither white space nor a comment."""
    return [token for token in tokens if token.kind not in ("space", "comment")]


def _trimmed(tokens: Sequence[Token]) -> tuple[list[Token], list[Token], list[Token]]:
    """Return the white space and comments before, what stands between, and those behind."""
    start, end = 0, len(tokens)
    while start < end and tokens[start].kind in ("space", "comment"):
        start += 1
    while end > start and tokens[end - 1].kind in ("space", "comment"):
        end -= 1
    return list(tokens[:start]), list(tokens[start:end]), list(tokens[end:])


def _around(tokens: Sequence[Token]) -> list[Token]:
    """Return tokens without the white space around them."""
    start, end = 0, len(tokens)
    while start < end and tokens[start].kind == "space":
        start += 1
    while end > start and tokens[end - 1].kind == "space":
        end -= 1
    return list(tokens[start:end])


def _comments(tokens: Sequence[Token]) -> tuple[Token, ...]:
    return tuple(token for token in tokens if token.kind == "comment")


def _joined(tokens: Sequence[Token]) -> bytes:
    return b"".join(token.text for token in _significant(tokens))


def _text(tokens: Sequence[Token]) -> bytes:
    return b"".join(b" " if token.kind == "comment" else token.text for token in tokens).strip()
