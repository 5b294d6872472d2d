"""What `make fresh` decides, without a machine: what is tried, what the registries are, what a log says."""

from pathlib import Path

import pytest
from tests.fresh import registries, results
from tests.fresh.machine import State
from tests.fresh.results import Result
from tests.fresh.systems import SYSTEMS, interpreter_of, trials

LOG = """\
= 3 failed, 7 passed in 1.00s =
bringing up nodes...
===== 4 failed, 4280 passed, 12 skipped, 2 errors in 271.34s (0:04:31) ======
make: *** [Makefile:29: test] Error 1
"""


def test_everything_is_tried_when_nothing_is_named() -> None:
    assert len(list(trials([], [], []))) == len(SYSTEMS) * 4
    [only] = trials(["debian13"], ["user"], ["test"])
    assert (only.name, only.make) == ("debian13-user-test", "make test")


def test_a_lent_interpreter_is_named_to_make() -> None:
    [trial] = trials(["python3.12"], ["root"], ["demo"])
    assert trial.make == "make PYTHON=/opt/python3.12/bin/python3.12 demo"


def test_the_newest_interpreter_of_a_version_is_lent_unless_one_is_named(tmp_path: Path) -> None:
    for patch in ("3.12.2", "3.12.10", "3.13.1"):
        version = patch[:4]
        (tmp_path / patch / "bin").mkdir(parents=True)
        (tmp_path / patch / "bin" / f"python{version}").touch()
        (tmp_path / patch / "lib" / f"python{version}").mkdir(parents=True)
    (tmp_path / "3.12.11").mkdir()  # not whole
    assert interpreter_of("3.12", {}, [tmp_path]) == tmp_path / "3.12.10"
    assert interpreter_of("3.12", {"3.12": Path("/srv/python")}, [tmp_path]) == Path("/srv/python")
    assert interpreter_of("3.14", {}, [tmp_path]) is None


def test_the_last_line_of_pytest_counts_and_errors_are_failures() -> None:
    assert results.counts(LOG) == {"passed": 4280, "failed": 6, "skipped": 12}
    assert results.counts("make: *** no rule") == {"passed": 0, "failed": 0, "skipped": 0}


def test_what_the_output_asks_root_for_is_found() -> None:
    output = "As root, this installs them:\n    sudo apt-get update && sudo apt-get install --yes x\nsay sudo, or not\n"
    assert results.advice(output) == ["apt-get update && apt-get install --yes x"]


def test_what_a_command_left_behind_is_told_and_what_was_there_is_not() -> None:
    before = State(frozenset({"/etc/rc2.d/S01cron"}), frozenset({"cron"}), False)
    after = State(
        frozenset({"/etc/rc2.d/S01cron", "/etc/systemd/system/multi-user.target.wants/nsd.service"}),
        frozenset({"cron", "/usr/sbin/nsd"}),
        True,
    )
    assert before.changes_to(before) == []
    assert before.changes_to(after) == [
        "enabled since: /etc/systemd/system/multi-user.target.wants/nsd.service",
        "still running: /usr/sbin/nsd",
        "left behind: /usr/sbin/policy-rc.d",
    ]


def test_the_archives_are_those_of_this_machine() -> None:
    targets = "http://a.test/debian/ bookworm Debian\nhttp://a.test/debian/ bookworm-updates Debian\n"
    targets += "http://a.test/security/ bookworm-security Debian\nhttps://b.test/ stable Elsewhere\n"
    found = registries.read_targets(targets)
    assert found == registries.Debian("http://a.test/debian/", "http://a.test/security/")
    assert found.sources("trixie").splitlines() == [
        "deb http://a.test/debian/ trixie main",
        "deb http://a.test/debian/ trixie-updates main",
        "deb http://a.test/security/ trixie-security main",
    ]
    assert found.sources("testing") == "deb http://a.test/debian/ testing main\n"
    with pytest.raises(registries.NoRegistry):
        registries.read_targets("https://b.test/ stable Elsewhere\n")


def test_pips_configuration_is_carried_without_files_of_this_machine() -> None:
    said = (
        "global.index-url='https://a.test/simple'\nglobal.extra-index-url='file:///opt/x https://b.test/'\n"
        ":env:.cert='/srv/own.pem'\nglobal.find-links='/opt/wheels'\nglobal.constraint='/etc/c.txt'\n"
    )
    assert registries.read_pip(said).splitlines() == [
        "[global]",
        f"cert = {registries.BUNDLE}",
        "extra-index-url = https://b.test/",
        "index-url = https://a.test/simple",
    ]


def test_results_are_kept_and_shown_as_a_table(tmp_path: Path) -> None:
    tried = Result(
        "debian12-root-test", "abc", "2026-11-30", "3.11.2", 330, passed=4280, skipped=3, asked=("make tools",)
    )
    wrong = Result("debian12-user-test", "abc", "2026-11-30", "3.11.2", 60, faults=("`make test` ended with 2",))
    results.save(tmp_path / "results.json", {one.trial: one for one in (tried, wrong)})
    kept = results.load(tmp_path / "results.json")
    assert kept == {one.trial: one for one in (tried, wrong)} and tried.right and not wrong.right
    rows = results.table(kept, list(trials(["debian12"], [], ["test"])))
    assert "| 3.11.2 | 2026-11-30 | 4280 passed, 3 skipped | 5.5 | as it should |" in rows
    assert "`make test` ended with 2" in rows
    page = results.rewrite("# X\n\n<!-- results -->\nold\n<!-- end of results -->\n", rows)
    assert page.startswith("# X\n\n<!-- results -->\n| system") and "old" not in page
    with pytest.raises(ValueError, match="no `<!-- results"):
        results.rewrite("# X\n", rows)
