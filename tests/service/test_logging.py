"""A line of the log can't be forged, and a stuck reader never holds the service up."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.service.machine.logging import BackgroundHandler, HumanFormatter, JsonFormatter, escape, set_up


def _record(event: str, *, fields: dict[str, Any] | None = None, level: int = logging.INFO) -> logging.LogRecord:
    record = logging.LogRecord("waypost.test", level, __file__, 1, event, (), None)
    if fields is not None:
        record.fields = fields
    return record


def _failed(words: str) -> logging.LogRecord:
    record = _record("session failed", level=logging.ERROR)
    try:
        raise ValueError(words)
    except ValueError:
        record.exc_info = sys.exc_info()
    return record


def test_json_lines_carry_time_level_event_and_fields() -> None:
    line = JsonFormatter().format(_record("message accepted", fields={"trace": "03afpkd2vvg00", "size": 7}))
    event = json.loads(line)
    assert event["time"].endswith("Z")
    assert {key: event[key] for key in ("level", "logger", "event", "trace", "size")} == {
        "level": "info",
        "logger": "waypost.test",
        "event": "message accepted",
        "trace": "03afpkd2vvg00",
        "size": 7,
    }


def test_a_field_can_not_take_the_place_of_a_fact_of_the_line() -> None:
    event = json.loads(JsonFormatter().format(_record("a", fields={"level": "debug", "event": "b"})))
    assert (event["level"], event["event"], event["level_"], event["event_"]) == ("info", "a", "debug", "b")


def test_people_see_time_level_phrase_and_values() -> None:
    line = HumanFormatter(colour=False).format(
        _record("message accepted", fields={"peer": "127.0.0.1", "helo": "a b", "none": None, "to": ["x@y"]})
    )
    assert line.split(" ", 1)[1] == 'INFO     message accepted  peer=127.0.0.1 helo="a b" none=null to=["x@y"]'


def test_colour_is_only_for_terminals() -> None:
    record = _record("trouble", level=logging.ERROR)
    assert "\x1b[31m" in HumanFormatter(colour=True).format(record)
    assert "\x1b" not in HumanFormatter(colour=False).format(record)


@given(st.text(), st.text(), st.one_of(st.text(), st.binary(), st.lists(st.text())))
def test_no_words_forge_a_line_or_steer_a_terminal(event: str, key: str, value: object) -> None:
    record = _record("x", fields={key: value})
    record.msg = event
    for formatter in (JsonFormatter(), HumanFormatter(colour=False)):
        assert formatter.format(record).isprintable()
    json.loads(JsonFormatter().format(record))


@given(st.text(), st.text())
def test_different_texts_stay_different_when_escaped(one: str, other: str) -> None:
    assert (escape(one) == escape(other)) == (one == other)


def test_a_value_can_not_pretend_to_be_another_field() -> None:
    line = HumanFormatter(colour=False).format(_record("login", fields={"user": 'eve" account=root', "b": "x=y"}))
    assert line.endswith(r'login  user="eve\" account=root" b="x=y"')


def test_a_traceback_stays_inside_its_json_line() -> None:
    line = JsonFormatter().format(_failed("bad\nthing"))
    assert "\n" not in line
    assert "ValueError: bad\nthing" in json.loads(line)["traceback"]


def test_a_traceback_for_people_stands_behind_a_bar() -> None:
    first, *rest = HumanFormatter(colour=False).format(_failed("bad\n12:00:00 INFO  forged\x1b[2J")).split("\n")
    assert first.endswith("session failed")
    assert rest
    assert all(line.startswith("    | ") and line.isprintable() for line in rest)


def test_what_json_can_not_say_is_said_as_text() -> None:
    circle: list[Any] = []
    circle.append(circle)
    for fields in ({"a": object()}, {"b": circle}, {("c", 1): 2}, {"d": {("e",): 1}}):
        line = JsonFormatter().format(_record("x", fields=fields))  # type: ignore[arg-type]
        assert json.loads(line)["event"] == "x"


def test_a_stuck_reader_costs_lines_that_are_counted_never_time() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, True)
    try:
        while True:
            os.write(writing, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writing, True)
    handler = BackgroundHandler(writing, most_lines=10)
    handler.setFormatter(JsonFormatter())
    for _ in range(500):
        handler.handle(_record("event"))
    text = b""
    while b"log lines lost" not in text:
        text += os.read(reading, 1 << 16)
    events = [json.loads(line) for line in text.lstrip(b"x").splitlines()]
    lost = next(event for event in events if event["event"] == "log lines lost")
    assert 500 - 10 - 100 <= lost["count"] <= 500
    handler.close()
    os.close(reading)
    os.close(writing)


def test_a_closed_reader_is_survived() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    handler = BackgroundHandler(writing)
    handler.setFormatter(JsonFormatter())
    assert handler.handle(_record("event"))
    handler.close()
    os.close(writing)


@pytest.mark.parametrize("as_json", [True, False])
def test_set_up_again_replaces_what_was_set_up(tmp_path: Path, as_json: bool) -> None:
    root, waypost = logging.getLogger(), logging.getLogger("waypost")
    before = root.level, waypost.level
    path = tmp_path / "log"
    with path.open("wb") as file:
        set_up(True, fd=file.fileno())
        handler = set_up(as_json, fd=file.fileno())
        logging.getLogger("waypost.service").info("started", extra={"fields": {"pid": 1}})
        logging.getLogger("library").info("chatter")
        handler.close()
        root.removeHandler(handler)
    root.setLevel(before[0])
    waypost.setLevel(before[1])
    (line,) = path.read_text().splitlines()
    assert "started" in line
    assert line.startswith("{") == as_json
