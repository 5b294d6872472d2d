"""What the manuals tell people to type exists, with the options that they name, and every link leads somewhere."""

from pathlib import Path

import click
import pytest
from tests.docs.pages import ROOT, Page, pages

from waypost.cli import program

PAGES = pages()


def fault_of(words: list[str]) -> str | None:
    """Return what is wrong with the arguments of a `waypost` command, by click's own tree; None when nothing is."""
    command: click.Command = program
    context = click.Context(program, info_name="waypost")
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        if found is None:
            return f"there is no command {rest[0]!r}"
        command, context = found, click.Context(found, parent=context, info_name=rest[0])
        rest = rest[1:]
    known = {name: option for option in command.params for name in (*option.opts, *option.secondary_opts)}
    known |= {"--help": None, "-h": None}
    for word in rest:
        name = word.partition("=")[0]
        if name.startswith("-") and name != "-" and name not in known:
            return f"{' '.join(words)}: no option {name}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_the_manuals_exists(page: Page) -> None:
    faults = [fault for words in page.commands("waypost") if (fault := fault_of(words)) is not None]
    assert faults == []


def test_the_reader_finds_commands_and_sees_what_is_wrong() -> None:
    text = "```sh\nA=b waypost queue list --domain x | less\n```\nSay `waypost queue lost`, or `waypost send --too x`."
    found = list(Page("x.md", text).commands("waypost"))
    assert found == [["queue", "list", "--domain", "x"], ["queue", "lost"], ["send", "--too", "x"]]
    assert [fault_of(words) for words in found] == [
        None,
        "there is no command 'lost'",
        "send --too x: no option --too",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_in_the_manuals_exists(page: Page) -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = {word for line in makefile.splitlines() if line.startswith(".PHONY:") for word in line.split()[1:]}
    benches = next(line.partition(":=")[2].split() for line in makefile.splitlines() if line.startswith("BENCHES"))
    targets |= {f"bench-{bench}" for bench in benches}
    named = {words[0] for words in page.commands("make") if words and "=" not in words[0]}
    assert named - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_between_pages_leads_somewhere(page: Page) -> None:
    broken = [link for link in page.links if not leads_somewhere(page, link)]
    assert broken == []


def test_every_file_that_the_house_plan_names_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    source = ROOT / "src" / "waypost"
    missing = [name for name in sorted(paths_in(text)) if not (source / name).exists() and not (ROOT / name).exists()]
    assert missing == []


def test_every_page_of_a_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = Page("index", (folder / "README.md").read_text())
    assert sorted(index.links) == sorted(path.name for path in folder.glob("0*.md"))


def leads_somewhere(page: Page, link: str) -> bool:
    """True for a link to another place on the network, a file that is there, or a heading that is there."""
    if "://" in link or link.startswith("mailto:"):
        return True
    target, _, fragment = link.partition("#")
    path = (ROOT / page.name).parent / target if target else ROOT / page.name
    return path.exists() and (not fragment or fragment in Page(link, path.read_text()).anchors)


def paths_in(text: str) -> set[str]:
    """Return what stands between backquotes and ends like a source file: `queue/schedule.py`."""
    words = Page("x", text).prose.split("`")[1::2]
    return {word for word in words if "/" in word and Path(word).suffix in (".py", ".sql", ".md") and " " not in word}
