"""Checks of settings that are valid alone but may contradict each other."""

from collections.abc import Iterator, Mapping
from typing import Any

from waypost.config.durations import format_duration
from waypost.config.errors import Complaints, KeyPath
from waypost.config.network import format_ip_and_port
from waypost.config.settings import IpAddress, QueueSettings, Route, Settings, TlsPolicy
from waypost.config.toml_text import value_text
from waypost.config.trusted import check_trusted

Places = Mapping[KeyPath, list[KeyPath]]


def check(settings: Settings, raw: Mapping[str, Any], places: Places, complaints: Complaints) -> None:
    """Report all contradictions. `raw` is the document, `places` says where its tables stand."""
    _domains(settings, complaints)
    _listeners(settings, places.get(("listener",), []), complaints, has_tls="tls" in raw)
    listeners, networks = places.get(("listener",), []), places.get(("trusted_network",), [])
    check_trusted(settings, listeners, networks, complaints, any_table="trusted_network" in raw)
    _second_pair(settings, complaints)
    _queue(settings.queue, complaints)
    _sources(settings, raw, places.get(("outbound", "source"), []), complaints)
    _routes(settings.routes, places.get(("route",), []), complaints)


def _domains(settings: Settings, complaints: Complaints) -> None:
    for index, domain in enumerate(settings.domains):
        if domain in settings.domains[:index]:
            complaints.about_value(("domains", index), domain, "there twice; write it once")


def _listeners(settings: Settings, places: list[KeyPath], complaints: Complaints, *, has_tls: bool) -> None:
    seen: dict[str, int] = {}
    for listener, place in zip(settings.listeners, places, strict=True):
        address = format_ip_and_port(listener.address, listener.port)
        if address in seen and listener.port:
            complaints.about_value(
                (*place, "address"), address, f"the listener in line {seen[address]} has it already; use another port"
            )
        seen.setdefault(address, complaints.line(place))
        if has_tls:
            continue
        if listener.protocol.implicit_tls:
            what = "speaks TLS from the first byte, and there is no certificate; add a table [tls]"
            complaints.about_value((*place, "protocol"), listener.protocol, what)
        elif listener.protocol.login:
            what = "nobody can log in without TLS, and there is no certificate; add a table [tls]"
            complaints.about_value((*place, "protocol"), listener.protocol, what)


def _second_pair(settings: Settings, complaints: Complaints) -> None:
    tls = settings.tls
    if tls is None or (tls.second_certificate is None) == (tls.second_key is None):
        return
    here, missing = ("second_certificate", "second_key")
    if tls.second_certificate is None:
        here, missing = missing, here
    complaints.about_key(("tls", here), f"it needs tls.{missing} too; add it, or remove this key")


def _queue(queue: QueueSettings, complaints: Complaints) -> None:
    if not queue.retry:
        complaints.about_value(("queue", "retry"), [], 'empty; write for example ["1m", "5m", "30m", "2h"]')
    if queue.delayed_notice >= queue.expire:
        complaints.about_value(
            ("queue", "delayed_notice"),
            format_duration(queue.delayed_notice),
            f"not before the message is returned (queue.expire, {value_text(format_duration(queue.expire))}); "
            'write less, or "0s" for no notice',
        )


def _sources(settings: Settings, raw: Mapping[str, Any], places: list[KeyPath], complaints: Complaints) -> None:
    outbound = settings.outbound
    if outbound.source_addresses and "source" in raw["outbound"]:
        words = "the sources are in tables [[outbound.source]] already; write these addresses there too, or remove them"
        complaints.about_key(("outbound", "source_addresses"), words)
    seen: dict[IpAddress, int] = {}
    for source, place in zip(outbound.sources, places, strict=True):
        if source.address in seen:
            words = f"the source in line {seen[source.address]} has it already; remove one"
            complaints.about_value((*place, "address"), str(source.address), words)
        seen.setdefault(source.address, complaints.line((*place, "address")))


def _routes(routes: tuple[Route, ...], places: list[KeyPath], complaints: Complaints) -> None:
    seen: dict[str, int] = {}
    for route, place in zip(routes, places, strict=True):
        for index, pattern in enumerate(route.domains):
            if pattern in seen:
                complaints.about_value(
                    (*place, "domains", index), pattern, f"it has a route in line {seen[pattern]} already; remove one"
                )
            seen.setdefault(pattern, complaints.line((*place, "domains", index)))
        for key, words in _about_route(route):
            complaints.about_key((*place, key), words)


def _about_route(route: Route) -> Iterator[tuple[str, str]]:
    if not route.domains:
        yield "domains", 'empty; write for example ["example.org"], or ["*"] for a smart host'
    if route.username is not None and route.password_file is None:
        yield "username", "a login needs a password too; add password_file, a file that holds it"
    if route.password_file is not None and route.username is None:
        yield "password_file", "a password needs a user too; add username"
    if route.username is not None and route.tls is TlsPolicy.NONE:
        yield "tls", 'a login needs TLS; write "required" or "implicit"'
