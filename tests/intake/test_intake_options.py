"""What each way in offers."""

from dataclasses import replace
from pathlib import Path

import pytest

from waypost.config.settings import Limits, ListenerProtocol, Settings, Tls
from waypost.intake import server_options

SETTINGS = Settings(Path("waypost.toml"), "mx.here.test", ("here.test",), Path("data"))
WITH_TLS = replace(SETTINGS, tls=Tls(Path("cert.pem"), Path("key.pem")))


def test_port_25_has_no_login_and_starttls_with_a_certificate() -> None:
    options = server_options(WITH_TLS, ListenerProtocol.SMTP, mechanisms=("PLAIN",))
    assert options.starttls and not options.mechanisms and not options.submission and not options.auth_required
    assert not server_options(SETTINGS, ListenerProtocol.SMTP).starttls


def test_submission_asks_for_a_login() -> None:
    for protocol, starttls in ((ListenerProtocol.SUBMISSION, True), (ListenerProtocol.SUBMISSIONS, False)):
        options = server_options(WITH_TLS, protocol)
        assert options.auth_required and options.submission and options.mechanisms
        assert options.starttls is starttls


def test_devices_submit_without_a_login() -> None:
    options = server_options(SETTINGS, ListenerProtocol.TRUSTED_SUBMISSION, mechanisms=("PLAIN",))
    assert options.submission and not options.auth_required and not options.mechanisms and not options.starttls
    assert server_options(WITH_TLS, ListenerProtocol.TRUSTED_SUBMISSION).starttls


def test_lmtp_is_another_protocol() -> None:
    options = server_options(WITH_TLS, ListenerProtocol.LMTP)
    assert options.lmtp and not options.starttls and not options.auth_required and options.greeting == "LMTP"


def test_limits_come_from_the_settings() -> None:
    limits = Limits(message_size=1, recipients=2, errors=3, transactions=4)
    options = server_options(replace(SETTINGS, limits=limits), ListenerProtocol.SMTP)
    assert (options.max_message_size, options.max_recipients) == (1, 2)
    assert (options.max_errors, options.max_transactions) == (3, 4)


def test_what_takes_no_mail_in_has_no_options() -> None:
    with pytest.raises(ValueError, match="pop3"):
        server_options(SETTINGS, ListenerProtocol.POP3)
