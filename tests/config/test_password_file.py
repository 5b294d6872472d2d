"""Passwords that stand in files of their own."""

from pathlib import Path

import pytest

from waypost.config.password_file import read_password


def test_the_password_is_the_first_line(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(" white rabbit é \r\nsecond line\n".encode())
    assert read_password(file) == " white rabbit é "


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "has an empty first line"),
        (b"\nwhite-rabbit", "has an empty first line"),
        (b"white-rabbit\xff\n", "is not UTF-8 in its first line"),
        (b"white-rabbit" * 400, "has more than 4096 octets in its first line"),
    ],
)
def test_what_is_wrong_is_told_without_the_password(tmp_path: Path, data: bytes, words: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(data)
    with pytest.raises(ValueError, match=words) as told:
        read_password(file)
    assert "rabbit" not in str(told.value)
