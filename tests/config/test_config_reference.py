"""The manual and the file that `waypost init` writes are made from the settings, and stay equal to them."""

from pathlib import Path

from waypost.config import settings
from waypost.config.load import parse
from waypost.config.reference import render, undocumented
from waypost.config.template import configuration

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_what_the_settings_say() -> None:
    assert PAGE.read_text() == render(), "run: python -m waypost.config.reference > docs/configuration.md"


def test_every_setting_has_its_manual() -> None:
    assert undocumented() == []


def test_a_new_configuration_has_no_errors_and_only_what_it_needs() -> None:
    text = configuration(hostname="mx.example.org", domains=("example.org", "example.net"))
    found = parse(text.encode(), Path("/x/waypost.toml")).settings
    assert found.hostname == "mx.example.org" and found.domains == ("example.org", "example.net")
    assert [f"{each.protocol} {each.address}:{each.port}" for each in found.listeners] == [
        "smtp 0.0.0.0:25",
        "submission 0.0.0.0:587",
        "submissions 0.0.0.0:465",
        "pop3 0.0.0.0:110",
        "pop3s 0.0.0.0:995",
    ]
    assert found.queue == settings.QueueSettings() and found.limits == settings.Limits() and found.routes == ()


def test_its_commented_ipv6_listeners_work_when_the_comment_goes() -> None:
    text = configuration(hostname="mx.example.org", domains=("example.org",))
    text = "\n".join(
        line.removeprefix("# ") if "[::]" in line or line.startswith(("# [[", "# proto")) else line
        for line in text.splitlines()
    )
    listeners = parse(text.encode(), Path("/x/waypost.toml")).settings.listeners
    assert [each.port for each in listeners if each.address.version == 6] == [25, 587, 465, 110, 995]
