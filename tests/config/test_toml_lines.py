"""Line numbers of keys in TOML, in every form that TOML has."""

import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from waypost.config.errors import KeyPath
from waypost.config.toml_lines import lines_of_keys

DOCUMENT = (
    '''\
# a comment with = and [brackets]
first = 1
"quoted \\" = key" = "a # b"     # 3
'literal' = 'c:\\'
text = """
line = 6 "" still
""\\"""""
after = 8
literal_text = \'\'\'
[not.a.table]
it''s'''
    """ = 1\'\'\'\'\'
when = 1979-05-27 07:32:00Z
list = [ # comment ]
  1,
  # another
  [2, 3], { in = "line" }
]
dotted.key."with space" = true
inline = { a = 1, b.c = [ {d = 2}, {e = 3} ] }

[table]
key = 'x'
[table.sub . deep]
key = 1\r
[[many]]
name = 1

[[many]]
name = 2
[many.inner]
x = 1
[[many.more]]
y = 1
[[many.more]]
y = 2
"""
)


def paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield where every key and element of a document stands."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths(item, (*path, key))


def test_every_key_of_a_document_has_its_line() -> None:
    text = DOCUMENT
    lines = lines_of_keys(text)
    by_hand = {
        ("first",): 2,
        ('quoted " = key',): 3,
        ("literal",): 4,
        ("text",): 5,
        ("after",): 8,
        ("literal_text",): 9,
        ("when",): 12,
        ("list",): 13,
        ("list", 0): 14,
        ("list", 1, 1): 16,
        ("list", 2, "in"): 16,
        ("dotted",): 18,
        ("dotted", "key", "with space"): 18,
        ("inline", "b", "c", 1, "e"): 19,
        ("table",): 21,
        ("table", "key"): 22,
        ("table", "sub"): 23,
        ("table", "sub", "deep", "key"): 24,
        ("many",): 25,
        ("many", 0, "name"): 26,
        ("many", 1): 28,
        ("many", 1, "name"): 29,
        ("many", 1, "inner", "x"): 31,
        ("many", 1, "more", 1, "y"): 35,
    }
    assert set(paths(tomllib.loads(text))) <= lines.keys()
    assert {path: lines[path] for path in by_hand} == by_hand


def test_what_is_no_toml_gives_the_lines_up_to_there() -> None:
    assert lines_of_keys("a = 1\nb = 2\n = 3\nc = 4") == {("a",): 1, ("b",): 2}
    assert lines_of_keys("a = [1, [")[("a",)] == 1
    assert lines_of_keys("[" * 100_000) == {}
    assert lines_of_keys("a = " + "[" * 100_000)[("a",)] == 1


KEY = st.sampled_from(["a", "b", '"c d"', "'e'", '"\\u00e9"', "a.b", 'b . "x"'])
SCALAR = st.sampled_from(
    [
        "1",
        "-1.5e3",
        "true",
        "nan",
        '"x"',
        '"\\"#"',
        "'#'",
        '"""a\n"b""c"""',
        "'''\n'a''b'''",
        '""""""',
        "''",
        '"""x"""""',
    ]
    + ["1979-05-27", "1979-05-27 07:32:00", "07:32:00.5", '"""\n[x]\na = 1\n"""', "0x1F"]
)
GAP = st.sampled_from(["", " ", "\n", " # ]} = [\n", "\r\n", "\n\n"])


@st.composite
def arrays(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    parts = [draw(GAP) + value + draw(GAP) for value in draw(st.lists(values, max_size=3))]
    comma = draw(st.sampled_from(["", ","])) if parts else ""
    return "[" + ",".join(parts) + comma + draw(GAP) + "]"


@st.composite
def inline_tables(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    return "{ " + ", ".join(f"{draw(KEY)} = {value}" for value in draw(st.lists(values, max_size=2))) + " }"


VALUE = st.recursive(SCALAR, lambda inner: arrays(inner) | inline_tables(inner), max_leaves=6)
STATEMENT = st.one_of(
    st.tuples(KEY, VALUE).map(lambda pair: f"{pair[0]} = {pair[1]} # = [x]"),
    KEY.map(lambda key: f"[{key}]"),
    KEY.map(lambda key: f"  [[ {key} ]]"),
    st.just("# x = 1"),
)


@given(st.lists(STATEMENT, max_size=8).map("\n".join))
def test_every_key_that_tomllib_finds_has_a_line(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        lines_of_keys(text)
        return
    lines = lines_of_keys(text)
    assert set(paths(document)) <= lines.keys()
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


@given(st.text())
def test_no_text_makes_the_scanner_fail(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 1 for line in lines_of_keys(text).values())
