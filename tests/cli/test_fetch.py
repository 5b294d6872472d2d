"""`waypost fetch`, as a person at a terminal and a script use it, against a real server."""

import json
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result
from tests.client.servers import ALICE, PASSWORD, Pop3Place, certified, listening

from waypost.cli.fetch import fetch

MESSAGES = [
    b"From: Alice <alice@wonderland.test>\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\nSubject: one\r\n\r\n.first\r\n",
    b"From: =?utf-8?q?H=C3=A4tter?= <h@x.test>\r\nSubject: =?utf-8?q?=1B]0;owned=07=0A_=E2=80=AE?=\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\nred: \x1b[31m\r\nbell: \x07\r\ntab:\tend\r\n"
    b"forged\rline\r\n\xc2\x9b2J \xe2\x80\xaebidi\r\n",
    b"Subject: three\r\nDate: nonsense\r\n\r\nbare\nline\rends\0 and \xff\r\n",
]


@pytest.fixture
def box(tmp_path: Path) -> Pop3Place:
    return Pop3Place(list(MESSAGES), certified(tmp_path, "127.0.0.1"), implicit=True)


def run_fetch(box: Pop3Place, *arguments: str, text: str = "") -> Result:
    assert box.certificate is not None
    with listening(box.serve) as port:
        return CliRunner().invoke(
            fetch,
            [f"pop3s://{quote(ALICE, safe='')}@127.0.0.1:{port}", "--ca", str(box.certificate.file), *arguments],
            input=text,
            env={"WAYPOST_PASSWORD": PASSWORD, "TZ": "UTC"},
        )


def test_the_list_is_a_table(box: Pop3Place) -> None:
    result = run_fetch(box)
    assert result.exit_code == 0, result.output
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["number", "date", "from", "subject", "size"]
    assert rows[0].split() == [
        "1",
        "2026-11-24",
        "12:00",
        "Alice",
        "<alice@wonderland.test>",
        "one",
        str(len(MESSAGES[0])),
    ]
    assert "Hätter <h@x.test>" in rows[1] and "\\x1b]0;owned\\x07\\n \\u202e" in rows[1]
    assert len(rows) == 3


def test_the_list_is_json_for_scripts(box: Pop3Place) -> None:
    listed = json.loads(run_fetch(box, "list", "--json").stdout)
    assert listed[0] == {
        "number": 1,
        "id": "7.11",
        "date": "2026-11-24T12:00:00+00:00",
        "from": "Alice <alice@wonderland.test>",
        "subject": "one",
        "size": len(MESSAGES[0]),
    }
    assert listed[2]["date"] is None


def test_a_date_that_no_local_time_can_show_is_left_out_of_the_list(box: Pop3Place) -> None:
    box.messages[0] = b"Subject: late\r\nDate: 31 Dec 9999 23:59:59 -2359\r\n\r\n"
    result = run_fetch(box)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].split() == ["1", "late", str(len(box.messages[0]))]


def test_an_empty_mailbox_is_said_to_be_empty(box: Pop3Place) -> None:
    box.messages.clear()
    assert run_fetch(box, "list").stdout == "The mailbox is empty.\n"
    assert json.loads(run_fetch(box, "list", "--json").stdout) == []
    assert run_fetch(box, "show", "1").exit_code == 1
    assert run_fetch(box, "delete", "all", "--yes").exit_code == 1


def test_a_message_is_shown_and_steers_no_terminal(box: Pop3Place) -> None:
    result = run_fetch(box, "show", "2")
    assert result.exit_code == 0
    shown = result.stdout
    assert shown.startswith("From: Hätter <h@x.test>\nSubject: \\x1b]0;owned\\x07\\n \\u202e\n\nred: \\x1b[31m\n")
    assert "tab:    end\n" in shown and "forged\\rline\n" in shown and "\\x9b2J \\u202ebidi" in shown
    assert not any(character in shown for character in "\x1b\x07\r\x9b\u202e")
    as_json = json.loads(run_fetch(box, "show", "2", "--json").stdout)
    assert as_json["from"] == "Hätter <h@x.test>" and as_json["attachments"] == []


def test_messages_are_saved_exactly_as_they_are(box: Pop3Place, tmp_path: Path) -> None:
    target = tmp_path / "letter.eml"
    assert run_fetch(box, "save", "3", str(target)).stdout == f"3: {target}\n"
    assert target.read_bytes() == MESSAGES[2]
    again = run_fetch(box, "save", "3", str(target))
    assert again.exit_code == 1 and "stays as it is" in again.stderr
    assert run_fetch(box, "save", "2", "-").stdout_bytes == MESSAGES[1]


def test_all_messages_are_saved_into_a_folder_once(box: Pop3Place, tmp_path: Path) -> None:
    folder = tmp_path / "mail"
    assert run_fetch(box, "save", "all", str(folder)).exit_code == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        f"7.{11 + number}.eml": message for number, message in enumerate(MESSAGES)
    }
    box.messages.append(b"Subject: four\r\n\r\n")
    result = run_fetch(box, "save", "2-4", str(folder))
    assert result.exit_code == 0 and result.stdout.count("is there already") == 2
    assert (folder / "7.14.eml").exists() and box.removed == []


def test_a_script_reads_what_was_saved_and_what_was_there_already(box: Pop3Place, tmp_path: Path) -> None:
    letter, folder = tmp_path / "letter.eml", tmp_path / "mail"
    one = run_fetch(box, "save", "2", str(letter), "--json")
    assert json.loads(one.stdout) == [{"number": 2, "file": str(letter), "saved": True}]
    run_fetch(box, "save", "1", f"{folder}/")
    both = run_fetch(box, "save", "1-2", str(folder), "--json")
    assert json.loads(both.stdout) == [
        {"number": number, "file": str(folder / f"7.{10 + number}.eml"), "saved": number == 2} for number in (1, 2)
    ]


def test_messages_are_deleted_after_a_question(box: Pop3Place) -> None:
    result = run_fetch(box, "delete", "1", "3", text="n\n")
    assert result.exit_code == 1 and "Delete messages 1, 3?" in result.output and box.removed == []
    assert run_fetch(box, "delete", "1", "3", text="y\n").exit_code == 0
    assert box.removed == [0, 2]
    box.removed.clear()
    assert run_fetch(box, "delete", "2", "--yes").stdout == "Deleted 1.\n"
    assert box.removed == [1]
    box.removed.clear()
    assert json.loads(run_fetch(box, "delete", "2", "1", "--yes", "--json").stdout) == {"deleted": [1, 2]}
    assert box.removed == [0, 1]


def test_nothing_is_deleted_when_one_of_them_is_not_there(box: Pop3Place) -> None:
    result = run_fetch(box, "delete", "1", "9", "--yes")
    assert result.exit_code == 1 and "there is no message 9: the mailbox has 3" in result.stderr
    assert box.removed == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show"], "show which message?"),
        (["show", "1", "2"], "show which message?"),
        (["show", "all"], "show which message?"),
        (["show", "0"], "there is no message 0"),
        (["save"], "save what, and where?"),
        (["save", "a", "1"], "save what, and where?"),
        (["save", "1", "a", "b"], "save what, and where?"),
        (["save", "1", "/nonexistent/a.eml"], "/nonexistent/a.eml: No such file"),
        (["save", "1", "-", "--json"], "can't have both the message and --json"),
        (["delete"], "delete which messages?"),
        (["delete", "one"], "'one' is no number"),
    ],
)
def test_what_is_wrong_with_the_command_is_said(arguments: list[str], words: str, box: Pop3Place) -> None:
    result = run_fetch(box, *arguments)
    assert result.exit_code == 1 and words in result.stderr


def test_plain_text_is_for_loopback_and_only_when_it_is_asked_for(box: Pop3Place) -> None:
    box.certificate, box.implicit, box.mechanisms = None, False, ()

    def serve_old(*arguments: str) -> Result:
        with listening(box.serve) as port:
            url = f"pop3://{quote(ALICE, safe='')}@127.0.0.1:{port}"
            return CliRunner().invoke(fetch, [url, *arguments], env={"WAYPOST_PASSWORD": PASSWORD})

    refused = serve_old()
    assert refused.exit_code == 1 and "must not be sent without" in refused.stderr
    insecure = serve_old("--insecure")
    assert "NOT checked" in insecure.stderr


def test_a_url_without_a_user_is_asked_whose_mailbox() -> None:
    result = CliRunner().invoke(fetch, ["pop3s://mx.wonderland.test"])
    assert result.exit_code == 1 and "whose mailbox?" in result.stderr
