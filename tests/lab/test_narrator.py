"""The story on a terminal: no line breaks inside a word, and none in a pipe."""

import io
import re

import pytest

from waypost.lab.narrator import Narrator

WORDS = "MTA: mx.silent.test 127.0.0.13:25 (plain text): no mail server answered: no connection: connection refused"


def told(monkeypatch: pytest.MonkeyPatch, *, columns: int | None) -> list[str]:
    for name, value in (("FORCE_COLOR", "1"), ("COLUMNS", str(columns)), ("TERM", "xterm")):
        if columns is not None:
            monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", *(("FORCE_COLOR",) if columns is None else ())):
        monkeypatch.delenv(name, raising=False)
    out = io.StringIO()
    narrator = Narrator(out)
    narrator.scene(
        "A domain that never answers", "First a notice that the message is delayed; then it comes back to Alice."
    )
    narrator.say("wonderland.test", WORDS, "wait", trace="1k1gfq194c200")
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("columns", [80, 100, 60])
def test_on_a_terminal_lines_break_between_words_under_their_beginning(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    lines = told(monkeypatch, columns=columns)
    story = lines[lines.index(next(line for line in lines if "wonderland.test" in line)) :]
    indent = story[0].index("MTA:")
    assert len(story) > 1 and all(line[:indent].strip() == "" for line in story[1:])
    assert " ".join(line[indent:] for line in story) == WORDS
    assert all(len(line) <= max(columns, indent + 30) for line in story)


def test_in_a_pipe_an_event_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch, columns=None)[-1].endswith(WORDS)
