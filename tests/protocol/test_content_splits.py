"""What a client's octets mean does not depend on the pieces in which they come: DATA's end, bare LFs, refusals."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from waypost.protocol.lines import is_clean, with_whole_ends
from waypost.protocol.smtp.content import ChunkReader, DotReader

PIECES = [
    b"\r",
    b"\n",
    b".",
    b"..",
    b"\0",
    b"x",
    b"\r\n",
    b"\r\n.",
    b"\n.\n",
    b"\r\n.\r\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\n..",
]
OCTETS = st.lists(st.sampled_from(PIECES), max_size=9).map(b"".join)
CUTS = st.lists(st.integers(0, 40), max_size=9).map(sorted)


def pieces(octets: bytes, cuts: list[int]) -> list[bytes]:
    borders = [0, *(cut for cut in cuts if cut < len(octets)), len(octets)]
    return [octets[start:end] for start, end in itertools.pairwise(borders)]


def read(stream: list[bytes], *, mends: bool) -> tuple[bytes | None, bytes]:
    """Return the content, None where it is refused, and what follows it; the stream holds a true end of DATA."""
    reader, content = DotReader(mends=mends), b""
    for index, piece in enumerate(stream):
        taken, rest = reader.feed(piece)
        content += taken
        if rest is not None:
            assert not reader.clean or reader.size == len(content)
            return content if reader.clean else None, rest + b"".join(stream[index + 1 :])
    raise AssertionError("the end was not found")


@given(OCTETS, OCTETS, CUTS, st.booleans())
def test_data_ends_at_the_first_crlf_dot_crlf_and_nowhere_else(
    content: bytes, behind: bytes, cuts: list[int], mends: bool
) -> None:
    stream = content + b"\r\n.\r\n" + behind
    lines = b"\r\n" + stream  # the content begins at the beginning of a line
    end = lines.find(b"\r\n.\r\n")
    found, rest = read(pieces(stream, cuts), mends=mends)
    assert rest == lines[end + 5 :]
    raw = lines[: end + 2]
    assert (found is not None) == (with_whole_ends(raw) is not None if mends else is_clean(raw))
    if found is not None:
        assert is_clean(found) and found == read([stream], mends=mends)[0]
        if is_clean(raw):
            assert found == raw.replace(b"\r\n.", b"\r\n")[2:]


@given(OCTETS, CUTS)
def test_chunks_of_bdat_are_one_text_wherever_they_are_cut(content: bytes, cuts: list[int]) -> None:
    for binary in (False, True):
        reader, found = ChunkReader(binary=binary), b""
        for piece in pieces(content, cuts):
            reader.left = len(piece)
            found += reader.feed(piece)
            assert reader.left == 0
        reader.end()
        expected = content if binary else with_whole_ends(content)
        assert (found if reader.clean else None) == expected
