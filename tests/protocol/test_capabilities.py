"""What the client engine reads in an EHLO reply."""

import pytest

from waypost.protocol.smtp.capabilities import parse_capabilities


@pytest.mark.parametrize(
    ("lines", "mechanisms"),
    [
        (["AUTH=LOGIN PLAIN"], {"LOGIN", "PLAIN"}),
        (["auth=plain"], {"PLAIN"}),
        (["AUTH= LOGIN"], {"LOGIN"}),
        (["AUTH CRAM-MD5", "AUTH=LOGIN"], {"CRAM-MD5", "LOGIN"}),
        (["AUTH="], set()),
        (["AUTH=LOGIN,PLAIN"], {"LOGIN", "PLAIN"}),
        (["AUTH = LOGIN, PLAIN"], {"LOGIN", "PLAIN"}),
        (["AUTH\tLOGIN"], {"LOGIN"}),
        (["AUTHX PLAIN", "X-AUTH=PLAIN"], set()),
        (["AUTH"], set()),
        (["AUTH LOGIN PLAIN", "AUTH=LOGIN PLAIN"], {"LOGIN", "PLAIN"}),
    ],
)
def test_the_old_form_of_auth_is_read_as_well(lines: list[str], mechanisms: set[str]) -> None:
    assert parse_capabilities(["mx.test", *lines]).mechanisms == mechanisms
