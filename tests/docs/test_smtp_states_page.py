"""docs/smtp-states.md is made from the table of commands, and is current."""

from pathlib import Path

from tests.tools import smtp_states

PAGE = Path(__file__).parents[2] / "docs" / "smtp-states.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == smtp_states.render(), "run: make docs"
