"""The address lists of header fields (RFC 5322 3.4 and 4.4, RFC 6854): From, Sender, To and the others.

`parse_address_list` reads what the grammar allows, obsolete forms included, and a few common mistakes that leave no
doubt about the address; each mailbox says which of these it is. `mailboxes_of` accepts the grammar only. The decision
whether an account may send as an author uses what is read here. So a value that could be read as a different address
is refused. The time is linear in the length of any value.
"""

import binascii
import re
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache
from itertools import groupby, pairwise
from typing import NamedTuple

from waypost.message.address_tokens import (
    AddressListError,
    Token,
    comments_in,
    joined,
    outside_angles,
    shown,
    significant,
    split,
    text_of,
    tokens_of,
    trimmed,
    unquoted,
    without_space,
)

__all__ = [
    "AddressList",
    "AddressListError",
    "Form",
    "Group",
    "NamedAddress",
    "addresses_in",
    "encoded_word",
    "holds_an_at",
    "mailboxes_of",
    "parse_address_list",
]


_ENCODED_WORD = re.compile(rb"=\?[^?\s]++\?([BbQq])\?([^?\s]*+)\?=")
_ENCODED_SPAN = re.compile(rb"=\?[^?]*+\?[^?]*+\?[^?]*+\?=")
_REMEMBERED = 256  # octets
_ATOMS = re.compile(rb"[^\s\"()<>,;:@\\\[\].]++(?:\.[^\s\"()<>,;:@\\\[\].]++)*+\Z")


class Form(IntEnum):
    """How a mailbox is written, from good to bad; a list has the form of its worst mailbox."""

    PLAIN = 0
    ODD = 1  # as RFC 5322 allows, with comments, white space or a route inside of the address
    WRONG = 2  # against the grammar, but there is no doubt about the address


class NamedAddress(NamedTuple):
    """One mailbox. `address` is its addr-spec without comments, white space and route.

    `name` holds the tokens before the address, `after` the comments after it.
    """

    name: tuple[Token, ...]
    address: bytes
    after: tuple[Token, ...]
    angle: bool
    form: Form


class Group(NamedTuple):
    """A group of RFC 5322 3.4: its name and its members; it may be empty."""

    name: tuple[Token, ...]
    members: tuple[NamedAddress, ...]
    form: Form


AddressList = tuple[NamedAddress | Group, ...]


def mailboxes_of(value: bytes) -> list[str]:
    """Return the addr-specs of an unfolded address list: `alice@example.org`, without names and comments.

    The members of groups are included. Raises `AddressListError`.
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
    tokens = tokens_of(value)
    if _has_groups(tokens):
        return _with_groups(tokens)
    ends = [index for index, token in enumerate(tokens) if token.kind not in ("space", "comment")][-1:]
    if ends and tokens[ends[0]] == ("special", b";"):  # some programs end a list with the separator that they use
        found = _mailboxes(split([*tokens[: ends[0]], *tokens[ends[0] + 1 :]]))
        return tuple(one._replace(form=Form.WRONG) for one in found)
    return tuple(_mailboxes(split(tokens)))


_parse_again = lru_cache(maxsize=1024)(_parse)  # people write their own name again and again


def encoded_word(text: bytes) -> bool:
    """True for one whole encoded word of RFC 2047."""
    return _ENCODED_WORD.fullmatch(text) is not None


def holds_an_at(name: bytes) -> bool:
    """True when an @ stands in quotes or in an encoded word (RFC 2047), or an encoded word can't be read."""
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


def _has_groups(tokens: Sequence[Token]) -> bool:
    """True when colons and semicolons alternate, as in groups; otherwise they are part of a name."""
    marks = [mark for mark in outside_angles(tokens) if mark in (b":", b";")]
    return bool(marks) and marks == [b":", b";"] * (len(marks) // 2)


def _with_groups(tokens: Sequence[Token]) -> AddressList:
    """Read a list in which every colon begins a group, and the next semicolon ends it."""
    parts: list[NamedAddress | Group] = []
    blocks = split(tokens, b";")
    for number, block in enumerate(blocks):
        pieces = split(block, b":")
        before = split(pieces[0])
        if number:  # after a group comes a comma or the end
            if significant(before[0]):
                raise AddressListError(f"a comma is missing before {shown(text_of(before[0]))}")
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
    if not significant(name):
        raise AddressListError("a colon without a name before it: a group has a name")
    if any(token.kind == "special" for token in name):
        what = "holds an @ outside of quotes" if Token("special", b"@") in name else "can't be read"
        raise AddressListError(f"the name {shown(text_of(name))} {what}")
    _check_brackets(name)
    _check_encoded(name)
    elements = [element for element in split(tokens) if significant(element)]  # RFC 5322 4.4: some may be empty
    members = tuple(_mailboxes(elements)) if elements else ()
    return Group(tuple(trimmed(name)[1]), members, max((one.form for one in members), default=Form.PLAIN))


def _mailboxes(elements: Sequence[list[Token]]) -> list[NamedAddress]:
    """Read the elements of a list. An element without address begins the name of the next: `Smith, Alice <a@x>`."""
    found: list[NamedAddress] = []
    waiting: list[Token] = []
    wrong = False
    for element in elements:
        said = significant(element)
        if not any(token.kind == "special" and token.text in b"@<" for token in said):
            if not said and not waiting:
                wrong = True  # an empty element (RFC 5322 4.4)
                continue
            waiting += [*element, Token("special", b",")]
            continue
        if waiting and Token("special", b"<") not in element:
            break
        found.append(_mailbox([*waiting, *element]))
        waiting = []
    if waiting:
        raise AddressListError(f"{shown(text_of(waiting[:-1]))} has no address")
    if not found:
        raise AddressListError("an address is missing")
    return [one._replace(form=Form.WRONG) for one in found] if wrong else found


def _mailbox(tokens: list[Token]) -> NamedAddress:
    start = next((index for index, token in enumerate(tokens) if token == ("special", b"<")), None)
    if start is None:
        return _bare(tokens)
    end = next((index for index, token in enumerate(tokens) if token == ("special", b">")), None)
    name = without_space(tokens[:start])
    inner = tokens[start + 1 : end]
    after = [] if end is None else tokens[end + 1 :]
    if end is not None and end < start:
        raise AddressListError(f"something is wrong at {shown(text_of(tokens[end:]))}")
    if significant(after):
        raise AddressListError(f"a comma is missing before {shown(text_of(after))}")
    address, form = _angle_address(inner)
    if end is None:
        form = Form.WRONG
    if any(token.kind == "special" for token in name):
        form = Form.WRONG
    _check_name(name, address)
    _check_encoded(name, after)
    return NamedAddress(tuple(name), address, comments_in(after), True, form)


def _bare(tokens: list[Token]) -> NamedAddress:
    """Read an address without angle brackets; if a name precedes it, they are missing by mistake: `"Alice" a@x`."""
    before, core, after = trimmed(tokens)
    _check_encoded(before, core, after)
    spec = _addr_spec(core)
    if spec is not None:
        return NamedAddress(comments_in(before), spec[0], comments_in(after), False, spec[1])
    ats = [index for index, token in enumerate(core) if token == ("special", b"@")]
    if len(ats) == 1 and ats[0] > 1 and core[ats[0] - 2].kind in ("space", "comment"):
        border = ats[0] - 1
        spec = _addr_spec(core[border:])
        name = without_space([*before, *core[:border]])
        words = significant(name)
        clear = words and not words[-1].text.endswith(b".") and all(token.kind != "special" for token in words)
        if clear and spec is not None and spec[1] is Form.PLAIN:
            _check_brackets(name)
            return NamedAddress(tuple(name), spec[0], comments_in(after), True, Form.WRONG)
    raise AddressListError(f"{shown(text_of(tokens))} is not an address")


def _angle_address(tokens: list[Token]) -> tuple[bytes, Form]:
    before, core, after = trimmed(tokens)
    form = Form.ODD if before or after else Form.PLAIN
    if core and core[0] == ("special", b"@"):  # obs-route of RFC 5322 4.4
        colon = next((index for index, token in enumerate(core) if token == ("special", b":")), 0)
        for hop in split(core[:colon]):
            if significant(hop) and not re.fullmatch(rb"@[^@]+", joined(hop)):
                raise AddressListError(f"the route {shown(text_of(core[:colon]))} can't be read")
        form, core = Form.ODD, trimmed(core[colon + 1 :])[1]
    spec = _addr_spec(core)
    if spec is None:
        text = text_of(tokens)
        what = "is not an address" if b"@" in text else "has no address"
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
    parts = significant(left)
    form = Form.PLAIN if len(parts) + len(significant(right)) + 1 == len(tokens) else Form.ODD
    local = joined(left)
    if len(parts) > 1 and any(token.kind == "quoted" for token in parts):
        said = b"".join(unquoted(token.text) if token.kind == "quoted" else token.text for token in parts)
        local, form = _quoted(said), Form.ODD
    domain = joined(right)
    if domain.endswith(b".") and not domain.endswith(b".."):
        domain, form = domain[:-1], Form.WRONG
    if b"=?" in local + b"@" + domain:
        raise AddressListError(f"{shown(local + b'@' + domain)} holds an encoded word, which an address may not")
    return local + b"@" + domain, form


def _dotted(tokens: Sequence[Token]) -> bool:
    """True for words and quoted strings with one dot between each two, or for one domain literal."""
    parts = significant(tokens)
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
    """Refuse a name that holds an address other than the one beside it: mail programs differ in which one they show.

    The same address may stand in the name, and so may an @ without a full address around it: in quotes it does no harm.
    """
    words = significant(name)
    for index, token in enumerate(words):
        if token != ("special", b"@"):
            continue
        left = words[index - 1].text if index else b""
        right = words[index + 1].text.rstrip(b".") if index + 1 < len(words) else b""
        full = b"." in right or right.startswith(b"[")
        if left and full and (left + b"@" + right).lower() != address.lower():
            raise AddressListError(f"the name {shown(text_of(name))} holds an @ outside of quotes")
    _check_brackets(name)


def _check_brackets(name: Sequence[Token]) -> None:
    """Refuse `"alice@us"[ <bob@them>`: some mail programs ignore quotes beside square brackets."""
    plain = b"".join(token.text for token in name if token.kind in ("word", "literal"))
    if (b"[" in plain or b"]" in plain) and holds_an_at(text_of(name)):
        raise AddressListError(f"the name {shown(text_of(name))} holds an @ beside brackets")


def _check_encoded(*texts: Sequence[Token]) -> None:
    """Refuse an encoded word without an end in its part of a mailbox, or with its end in another string or comment.

    Some mail programs look for the end before they look for brackets and quotes: they find no address in
    `"=?utf-8?q?" <?=a@x.test>`, and another address in `=?utf-8?q?"?=b@y.test " <a@x.test>`.
    """
    for tokens in texts:
        text = b"".join(token.text for token in tokens)
        if b"=?" in text and (b"=?" in _ENCODED_SPAN.sub(b"", text) or _straddles(tokens)):
            raise AddressListError(f"an encoded word has no end: {shown(text)}")


def _straddles(tokens: Sequence[Token]) -> bool:
    """True when an encoded word begins outside of a quoted string or comment and ends inside, or the other way."""
    begun: list[bool] = []  # for each open beginning, whether it stands in a quoted string or comment
    for enclosed, group in groupby(tokens, lambda token: token.kind in ("quoted", "comment")):
        for text in [token.text for token in group] if enclosed else [b"".join(token.text for token in group)]:
            rest = _ENCODED_SPAN.sub(b"", text)
            if b"?=" in rest and (begun if enclosed else any(begun)):
                return True
            if b"=?" in rest:
                begun.append(enclosed)
    return False
