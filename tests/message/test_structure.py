"""The parts of a message are found where they are, in linear time, whatever the octets."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.message.structure import DEEPEST, Part, scan_structure


def shape(part: Part) -> object:
    """A part as nested lists: its type, or its type and its parts."""
    return [part.content_type.value, *map(shape, part.parts)] if part.parts else part.content_type.value


def scan(data: bytes) -> Part:
    return scan_structure(data).root


def body(data: bytes, part: Part) -> bytes:
    return data[part.body : part.end]


def everything(part: Part) -> Iterator[Part]:
    yield part
    for child in part.parts:
        yield from everything(child)


def test_a_message_without_fields_is_text_and_an_empty_one_too() -> None:
    for data in (b"", b"\r\n", b"\r\nhello", b"Subject: x\r\n\r\nhello", b"Subject: x\r\n", b"hello"):
        root = scan(data)
        assert (root.content_type.value, root.content_type.get("charset"), root.encoding) == (
            "text/plain",
            b"us-ascii",
            "7bit",
        )
        assert root.start == 0 and root.end == len(data) and not root.parts
    assert body(b"Subject: x\r\n\r\nhello", scan(b"Subject: x\r\n\r\nhello")) == b"hello"
    assert body(b"\r\nhello", scan(b"\r\nhello")) == b"hello"
    assert body(b"Subject: x\r\n", scan(b"Subject: x\r\n")) == b""


MIXED = (
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=outer\r\n\r\npreamble\r\n--outer\r\n"
    b'Content-Type: multipart/alternative;\r\n boundary="in ner"\r\n\r\n--in ner\r\n\r\nplain\r\n--in ner  \r\n'
    b"Content-Type: TEXT/Html; charset=utf-8\r\nContent-Transfer-Encoding: Quoted-Printable\r\n\r\n<p>html</p>\r\n\r\n"
    b"--in ner--\r\nepilogue\r\n--outer\r\nContent-Type: image/png\r\n"
    b"Content-Disposition: attachment; filename=a.png\r\n\r\n\x89PNG\r\n--outer--\r\nepilogue\r\n"
    b"--outer\r\nnot a part\r\n"
)


def test_parts_within_parts_have_their_octets() -> None:
    root = scan(MIXED)
    assert shape(root) == ["multipart/mixed", ["multipart/alternative", "text/plain", "text/html"], "image/png"]
    plain, page, image = root.leaves()
    assert [body(MIXED, part) for part in (plain, page, image)] == [b"plain", b"<p>html</p>\r\n", b"\x89PNG"]
    assert MIXED[page.start : page.body].startswith(b"Content-Type: TEXT") and page.encoding == "quoted-printable"
    assert image.disposition is not None
    assert (image.disposition.value, image.disposition.text("filename")) == ("attachment", "a.png")
    assert root.is_multipart and not root.is_message


def test_a_message_in_a_message_is_looked_into_and_its_leaves_are_not_ours() -> None:
    inner = b"Subject: in\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b--"
    data = b"Content-Type: message/rfc822\r\n\r\n" + inner
    root = scan(data)
    assert shape(root) == ["message/rfc822", ["multipart/mixed", "text/plain"]]
    assert root.is_message and data[root.parts[0].start : root.parts[0].end] == inner
    assert list(root.leaves()) == [root]


def test_an_encoded_message_is_not_looked_into() -> None:
    data = b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\nU3ViamVjdDogeA=="
    assert shape(scan(data)) == "message/rfc822" and not scan(data).is_message


def test_parts_of_a_digest_are_messages_unless_they_say_otherwise() -> None:
    data = (
        b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: one\r\n\r\nhi\r\n"
        b"--b\r\nContent-Type: text/plain\r\n\r\nno message\r\n--b--\r\n"
    )
    assert shape(scan(data)) == ["multipart/digest", ["message/rfc822", "text/plain"], "text/plain"]


@pytest.mark.parametrize(
    ("body_octets", "expected"),
    [
        (b"", []),
        (b"no delimiter", []),
        (b"--b", [b""]),
        (b"--b\r\n", [b""]),
        (b"--b\r\n--b\r\n--b--\r\n", [b"", b""]),
        (b"--b\r\n\r\n\r\n--b\r\n\r\nlast without an end", [b"", b"last without an end"]),
        (b"--b\r\nContent-Type: text/html\r\n--b\r\n\r\nx\r\n--b--", [b"", b"x"]),
        (b"text --b\r\n\r\n\n--b\r\n", []),
        (b"--b anything behind it\r\n\r\nx\r\n--b--anything", [b"x"]),
        (b"--b--\r\n--b\r\n\r\nepilogue", []),
        (b"--b\r\n\r\nbare\n--b\nline ends\r\n--b--\r\n", [b"bare\n--b\nline ends"]),
    ],
)
def test_delimiters_stand_at_the_beginning_of_lines(body_octets: bytes, expected: list[bytes]) -> None:
    data = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + body_octets
    assert [body(data, part) for part in scan(data).parts] == expected


def test_the_longest_boundary_is_meant_and_the_inner_one_of_equals() -> None:
    data = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n"
        b"--bb\r\n\r\none\r\n--bb--\r\n--b\r\n\r\ntwo\r\n--b--\r\n"
    )
    assert [body(data, part) for part in scan(data).leaves()] == [b"one", b"two"]
    data = data.replace(b"bb", b"b")
    assert [body(data, part) for part in scan(data).leaves()] == [b"one", b"two"]


def test_an_outer_delimiter_ends_inner_parts_that_have_no_end() -> None:
    data = (
        b"Content-Type: multipart/mixed; boundary=o\r\n\r\n--o\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n"
        b"--i\r\n\r\none\r\n--o\r\n\r\ntwo\r\n--i\r\nstill two\r\n--o--\r\n"
    )
    assert [body(data, part) for part in scan(data).leaves()] == [b"one", b"two\r\n--i\r\nstill two"]


@pytest.mark.parametrize("field", [b"", b"; boundary=", b'; boundary=""', b"; boundary=" + b"x" * 201])
def test_a_multipart_without_a_usable_boundary_has_no_parts(field: bytes) -> None:
    data = b"Content-Type: multipart/mixed" + field + b"\r\n\r\n--\r\n\r\nx\r\n----\r\n"
    assert shape(scan(data)) == "multipart/mixed" and not scan(data).is_multipart


def nested(depth: int, kind: bytes = b"multipart/mixed; boundary=b%d") -> bytes:
    return b"".join(
        b"Content-Type: " + (kind % level if b"%d" in kind else kind) + b"\r\n\r\n" + b"--b%d\r\n" % level
        for level in range(depth)
    )


def test_depth_and_number_are_bounded_and_it_is_said() -> None:
    deep = scan_structure(nested(10_000))
    assert not deep.whole and depth(deep.root) == DEEPEST
    assert scan_structure(nested(DEEPEST - 1)).whole
    chain = scan_structure(b"Content-Type: message/rfc822\r\n\r\n" * 10_000)
    assert not chain.whole and depth(chain.root) == DEEPEST
    many = scan_structure(
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 50, most_parts=11
    )
    assert not many.whole and len(many.root.parts) == 10
    assert scan_structure(MIXED, most_parts=5).whole and not scan_structure(MIXED, most_parts=4).whole


def depth(part: Part) -> int:
    return 1 + max(map(depth, part.parts), default=0)


class Counted(bytes):
    """Octets that count how many of them searches and slices touch."""

    touched = 0

    def find(self, sub: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]
        end = len(self) if end is None else end
        found = super().find(sub, start, end)
        Counted.touched += (found if found >= 0 else end) - start + len(sub)
        return found

    def startswith(self, prefix: bytes, start: int = 0) -> bool:  # type: ignore[override]
        Counted.touched += len(prefix)
        return super().startswith(prefix, start)

    def __getitem__(self, index: slice) -> bytes:  # type: ignore[override]
        found = super().__getitem__(index)
        Counted.touched += len(found)
        return found


MANY_BOUNDARIES = b"".join(
    b"Content-Type: multipart/mixed; boundary=%s\r\n\r\n--%s\r\n" % (b"b" * n, b"b" * n) for n in range(1, 49)
)
BOMBS = {
    "boundaries without blank lines": (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n", b"--b\r\n"),
    "delimiters behind the last part": (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b--", b"\r\n--b"),
    "lines of hyphens": (b"Content-Type: multipart/mixed; boundary=-\r\n\r\n", b"-\r\n"),
    "hyphens under all open boundaries": (MANY_BOUNDARIES, b"\r\n--a"),
    "headers in a chain of messages": (b"", b"Content-Type: message/rfc822\r\n\r\n"),
    "a header without an end": (b"", b"A: b\r\n--b\r\n"),
    "nested multiparts": (b"", b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"),
    "a digest": (b"Content-Type: multipart/digest; boundary=b\r\n\r\n", b"--b\r\n\r\nA: b\r\n"),
    "blank lines": (b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", b"\r\n\r\n"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_the_work_grows_with_the_size_and_not_faster(name: str) -> None:
    head, unit = BOMBS[name]
    work = []
    for count in (1000, 2000, 4000, 8000):
        Counted.touched = 0
        scan_structure(Counted(head + unit * count))
        work.append(Counted.touched)
    for small, large in itertools.pairwise(work):
        assert large <= 2.1 * small + 1000


PIECES = st.lists(
    st.sampled_from(
        [
            b"\r\n",
            b"\r\n\r\n",
            b"--a",
            b"--ab",
            b"--",
            b"-",
            b"\n",
            b"x",
            b": ",
            b"Content-Type: multipart/mixed; boundary=a\r\n",
            b"Content-Type: multipart/digest; boundary=ab\r\n",
            b"Content-Type: message/rfc822\r\n",
            b"Content-Type: text/plain\r\n",
            b"Content-Transfer-Encoding: base64\r\n",
        ]
    )
    | st.binary(max_size=3),
    max_size=60,
)


@given(PIECES)
def test_parts_lie_in_each_other_and_in_order(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    root = scan(data)
    assert (root.start, root.end) == (0, len(data))
    for part in everything(root):
        assert part.start <= part.body <= part.end
        position = part.body
        for child in part.parts:
            assert position <= child.start and child.end <= part.end
            position = child.end
        if part.is_message:
            assert (part.parts[0].start, part.parts[0].end) == (part.body, part.end)
    if not any(b"Content-Type: m" in piece for piece in pieces):
        assert not root.parts


TREES = st.recursive(
    st.binary(max_size=20).filter(lambda octets: b"--" not in octets),
    lambda children: st.lists(children, min_size=1, max_size=3) | st.tuples(children),
    max_leaves=12,
)


def written(tree: object, boundaries: Iterator[int]) -> bytes:
    """A message of which the parts are known: a list is a multipart, a tuple holds a message."""
    if isinstance(tree, bytes):
        return b"Content-Type: application/octet-stream\r\n\r\n" + tree
    if isinstance(tree, tuple):
        return b"Content-Type: message/rfc822\r\n\r\n" + written(tree[0], boundaries)
    assert isinstance(tree, list)
    boundary = b"=_%d_" % next(boundaries)
    parts = b"".join(b"--" + boundary + b"\r\n" + written(child, boundaries) + b"\r\n" for child in tree)
    return b'Content-Type: multipart/x; boundary="' + boundary + b'"\r\n\r\n' + parts + b"--" + boundary + b"--\r\n"


def found(data: bytes, part: Part) -> object:
    if part.is_message:
        return (found(data, part.parts[0]),)
    if part.content_type.major == "multipart":
        return [found(data, child) for child in part.parts]
    return body(data, part)


@given(TREES)
def test_what_was_put_together_is_taken_apart_the_same(tree: object) -> None:
    data = written(tree, itertools.count())
    structure = scan_structure(data)
    assert structure.whole and found(data, structure.root) == tree
