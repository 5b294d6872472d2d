"""A protocol of a listener is one row: no column can be left out, and what depends on the protocol follows from it."""

import ssl
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.faults.callers import Caller, any_certificate
from tests.faults.office import Office, settings_for

from waypost.cli.settings import offers_of
from waypost.config.errors import ConfigErrors
from waypost.config.listener_protocols import Clients, Encryption, ListenerProtocol
from waypost.config.load import parse
from waypost.config.settings import Listener
from waypost.protocol.reply import reply
from waypost.service import session_makers
from waypost.service.sockets.acceptor import refusal

BUSY = reply(421, "4.3.2", "Too many connections")


def test_a_row_with_a_column_left_out_is_no_row() -> None:
    with pytest.raises(TypeError, match="refusal"):

        class _Protocol(str):
            __new__ = ListenerProtocol.__dict__["__new_member__"]

        _Protocol("imap", "IMAP", 993, Encryption.AT_ONCE, Clients.READERS)  # type: ignore[call-arg]


@pytest.mark.parametrize("protocol", ListenerProtocol)
def test_every_protocol_has_sessions(protocol: ListenerProtocol) -> None:
    assert callable(getattr(session_makers, protocol.sessions))
    assert session_makers._MAKERS[protocol].__name__ == protocol.sessions


@pytest.mark.parametrize("protocol", ListenerProtocol)
def test_a_client_that_finds_no_place_hears_it_in_its_protocol_and_nothing_before_tls(
    protocol: ListenerProtocol,
) -> None:
    said = refusal(protocol, BUSY)
    if protocol.encryption is Encryption.AT_ONCE:
        assert said == b""
    else:
        assert said.endswith(b"\r\n") and b"Too many connections" in said
        assert said.startswith({"SMTP": b"421 4.3.2 ", "LMTP": b"421 ", "POP3": b"-ERR [SYS/TEMP] "}[protocol.speaks])


@pytest.mark.parametrize("protocol", ListenerProtocol)
async def test_a_listener_greets_inside_tls_or_outside_as_its_row_says(
    tmp_path: Path, protocol: ListenerProtocol
) -> None:
    async with Office(settings_for(tmp_path)) as office:
        tls = any_certificate() if protocol.implicit_tls else None
        caller = await Caller.dial(office.port(protocol), tls=tls)
        assert await caller.line() != ""
        if protocol.implicit_tls:
            assert caller.writer.get_extra_info("cipher") is not None
            plain = await Caller.dial(office.port(protocol))
            await plain.send(b"EHLO x\r\n")
            said = await plain.rest()
            assert said == b"" or said[0] == 21, "nothing but an alert of TLS"
            plain.hang_up()
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await Caller.dial(office.port(protocol), tls=any_certificate())
        caller.hang_up()


@pytest.mark.parametrize("protocol", ListenerProtocol)
def test_a_listener_where_people_log_in_needs_a_certificate(protocol: ListenerProtocol, tmp_path: Path) -> None:
    text = f"""
hostname = "mx.here.test"
domains = ["here.test"]
data = "data"
[[listener]]
protocol = "{protocol}"
address = "127.0.0.1:2525"
"""
    if protocol.clients is Clients.DEVICES:
        text += """[[trusted_network]]
networks = ["192.168.7.40/32"]
account = "printer@here.test"
senders = ["printer@here.test"]
"""
    if protocol.login or protocol.implicit_tls:
        with pytest.raises(ConfigErrors, match=r"\[tls\]"):
            parse(text.encode(), tmp_path / "waypost.toml")
    else:
        assert parse(text.encode(), tmp_path / "waypost.toml").settings.listeners[0].protocol is protocol


@pytest.mark.parametrize("protocol", ListenerProtocol)
def test_people_are_told_of_every_protocol_that_is_theirs(protocol: ListenerProtocol, tmp_path: Path) -> None:
    listener = Listener(protocol, ip_address("192.0.2.1"), protocol.port)
    offers = offers_of(replace(settings_for(tmp_path), listeners=(listener,)))
    assert [(offer.protocol, offer.port) for offer in offers] == (
        [(protocol.speaks, protocol.port)] if protocol.login else []
    )
