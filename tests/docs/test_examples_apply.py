"""The worked examples of CONTRIBUTING.md: each is a diff that applies to this tree, and is quoted as it is."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "docs/examples").glob("*.diff"))
MANUAL = (ROOT / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_applies_to_this_tree(example: Path) -> None:
    checked = subprocess.run(
        ["git", "apply", "--check", str(example)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, f"make it anew, with its tests:\n{checked.stderr}"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_is_named_in_the_manual_and_brings_tests(example: Path) -> None:
    assert f"docs/examples/{example.name}" in MANUAL
    assert "+++ b/tests/" in example.read_text()


def test_what_the_manual_quotes_of_an_example_stands_in_it() -> None:
    written = {line for example in EXAMPLES for line in example.read_text().splitlines()}
    quoted = [
        line
        for block in re.findall(r"```diff\n(.*?)```", MANUAL, re.DOTALL)
        for line in block.splitlines()
        if line != " …"
    ]
    assert quoted and [line for line in quoted if line not in written] == []
