"""docs/standards.md is made from a table of verdicts and from the code: it is current, and it forgets no RFC."""

import subprocess
import sys
from pathlib import Path

from tests.tools import standards

ROOT = Path(__file__).parents[2]


def test_the_page_is_current() -> None:
    made = subprocess.run(
        [sys.executable, "tests/tools/standards.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    page = (ROOT / "docs" / "standards.md").read_text()
    assert page == made.stdout, "run: python tests/tools/standards.py > docs/standards.md"


def test_every_rfc_that_the_code_cites_has_a_verdict() -> None:
    judged = {number for _, rows in standards.RFCS for number, *_ in rows}
    assert sorted(standards.citations().keys() - judged) == []


def test_every_verdict_is_about_something_that_the_code_cites() -> None:
    judged = [number for _, rows in standards.RFCS for number, *_ in rows]
    assert len(judged) == len(set(judged))
    assert sorted(set(judged) - standards.citations().keys()) == []


def test_what_is_supported_in_part_says_which_part() -> None:
    silent = [
        number
        for _, rows in standards.RFCS
        for number, _, support, remark in rows
        if support == standards.PARTLY and not remark
    ]
    assert silent == []
