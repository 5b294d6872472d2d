"""The kinds of value in a configuration: for each type of a setting, how it is read, written and named.

The table `KINDS` has them all; `reader.py` looks up a field's type there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_origin

from waypost.config.durations import format_duration, parse_duration
from waypost.config.errors import WrongValue
from waypost.config.names import (
    parse_domain,
    parse_domain_pattern,
    parse_host_name,
    parse_mail_address,
    parse_next_hop,
    parse_sender,
)
from waypost.config.network import (
    check_port,
    format_ip_and_port,
    parse_ip,
    parse_ip_and_port,
    parse_ip_network,
    parse_source_address,
)
from waypost.config.settings import (
    Count,
    Domain,
    DomainPattern,
    Duration,
    HostName,
    IpAddress,
    IpAndPort,
    IpNetwork,
    ListenAddress,
    MailAddress,
    NextHop,
    Port,
    Senders,
    Separator,
    Share,
    Size,
    SourceAddress,
    Timeout,
)
from waypost.config.sizes import check_size, format_size, parse_size
from waypost.config.toml_text import value_text


@dataclass(frozen=True, slots=True)
class ValueKind:
    """How values of one type are read from the file and written to it.

    `name` is for the manual. `read` takes a value of `tomllib` and the folder of the configuration file, and raises
    `WrongValue`. `write` returns a value that was read as TOML.
    """

    name: str
    read: Callable[[Any, Path], Any]
    write: Callable[[Any], str]


def kind_of(annotation: Any) -> ValueKind:
    """Return the kind for a field's type: one of `KINDS`, an enumeration, an array of these, or an optional one."""
    if annotation in KINDS:
        return KINDS[annotation]
    arguments = get_args(annotation)
    if type(None) in arguments:
        return kind_of(next(each for each in arguments if each is not type(None)))
    if get_origin(annotation) is tuple:
        return _array(kind_of(arguments[0]))
    return _choice(annotation)


def _as_array(value: Any, element: ValueKind, folder: Path) -> str:
    """Return the array that somebody meant who wrote a value without brackets."""
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else [value]
    for meant in (parts, [value]):
        try:
            for part in meant:
                element.read(part, folder)
            return value_text(meant)
        except WrongValue:
            continue
    return "its values in brackets, with commas between them"


def _array(element: ValueKind) -> ValueKind:
    def read(value: Any, folder: Path) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise WrongValue(f"not an array; write {_as_array(value, element, folder)}")
        result = []
        for index, item in enumerate(value):
            try:
                result.append(element.read(item, folder))
            except WrongValue as error:
                raise WrongValue(str(error), inside=(index, *error.inside), value=item) from None
        return tuple(result)

    return ValueKind(f"array: {element.name}", read, lambda value: "[" + ", ".join(map(element.write, value)) + "]")


def _choice(names: type[StrEnum]) -> ValueKind:
    known = ", ".join(f'"{name}"' for name in names)

    def read(value: Any, folder: Path) -> StrEnum:
        if value not in list(names):
            raise WrongValue(f"not one of the known ones; write {' or '.join(known.rsplit(', ', 1))}")
        return names(value)

    return ValueKind(f"one of {known}", read, value_text)


def _text(name: str, parse: Callable[[str], Any], example: str, write: Callable[[Any], str] = str) -> ValueKind:
    """A kind that is written as a string."""

    def read(value: Any, folder: Path) -> Any:
        if not isinstance(value, str):
            raise WrongValue(f"not a text; write for example {value_text(example)}")
        return _checked(parse, value)

    return ValueKind(name, read, lambda value: value_text(write(value)))


def _whole_number(name: str, check: Callable[[int], int]) -> ValueKind:
    def read(value: Any, folder: Path) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise WrongValue("not a whole number; write for example 25")
        return int(_checked(check, value))

    return ValueKind(name, read, value_text)


def _checked(parse: Callable[[Any], Any], value: Any) -> Any:
    try:
        return parse(value)
    except ValueError as error:
        raise WrongValue(str(error)) from None


def _at_least(lowest: int) -> Callable[[int], int]:
    def check(number: int) -> int:
        if number < lowest:
            raise ValueError(f"too small; write {lowest} or more")
        if number > 10**12:
            raise ValueError("too large; write 1000000000000 or less")
        return number

    return check


def _longer_than_nothing(text: str) -> int:
    duration = parse_duration(text)
    if duration == 0:
        raise ValueError('must be longer than 0; write for example "1s"')
    return duration


def _printable(text: str) -> str:
    if not text or not text.isprintable():
        raise ValueError("empty, or with characters that can't be printed; write a text without them")
    return text


def _separator(text: str) -> str:
    if text and text not in "!#$%&'*+-/=^_`{|}~":
        raise ValueError('not a separator; write one character that may stand in an address, for example "+", or ""')
    return text


def _read_boolean(value: Any, folder: Path) -> bool:
    if not isinstance(value, bool):
        raise WrongValue("neither true nor false; write one of them, without quotes")
    return value


def _read_share(value: Any, folder: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise WrongValue("not a number from 0 to 1; write for example 0.1")
    return float(value)


def _read_size(value: Any, folder: Path) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise WrongValue('not a size; write a number of octets, or for example "50 MiB"')
    return int(_checked(parse_size if isinstance(value, str) else check_size, value))


def _write_size(octets: int) -> str:
    text = format_size(octets)
    return text if text.isdigit() else value_text(text)


def _read_path(value: Any, folder: Path) -> Path:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise WrongValue('not a path; write for example "tls/cert.pem"')
    return folder / value


def _read_senders(value: Any, folder: Path) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, Mapping):
        raise WrongValue('not a table; write for example { "alice@example.org" = ["sales@example.org"] }')
    senders = _array(_text("", parse_sender, "sales@example.org"))
    result = {}
    for account, addresses in value.items():
        try:
            name = _checked(parse_mail_address, account)
        except WrongValue as error:
            raise WrongValue(f"the account is {error}", inside=(account,), value=addresses) from None
        try:
            result[name] = senders.read(addresses, folder)
        except WrongValue as error:
            where = error.inside or ()
            raise WrongValue(str(error), inside=(account, *where), value=error.value if where else addresses) from None
    return tuple(result.items())


KINDS: dict[Any, ValueKind] = {
    str: _text("text", _printable, "text"),
    bool: ValueKind("true or false", _read_boolean, value_text),
    int: _whole_number("number, 0 or more", _at_least(0)),
    Count: _whole_number("number, 1 or more", _at_least(1)),
    Port: _whole_number("port", check_port),
    Share: ValueKind("number from 0 to 1", _read_share, value_text),
    Duration: _text("duration", parse_duration, "5m", format_duration),
    Timeout: _text("duration", _longer_than_nothing, "5m", format_duration),
    Size: ValueKind("size", _read_size, _write_size),
    Path: ValueKind("path", _read_path, lambda path: value_text(str(path))),
    Domain: _text("domain name", parse_domain, "example.org"),
    HostName: _text("host name", parse_host_name, "mx.example.org"),
    DomainPattern: _text("domain name, .domain or *", parse_domain_pattern, "example.org"),
    NextHop: _text("host", parse_next_hop, "relay.example.net"),
    MailAddress: _text("mail address", parse_mail_address, "alice@example.org"),
    Separator: _text("one character, or none", _separator, "+"),
    IpAddress: _text("IP address", parse_ip, "192.0.2.1"),
    SourceAddress: _text("IP address", parse_source_address, "192.0.2.1"),
    IpNetwork: _text("network", parse_ip_network, "192.0.2.0/24"),
    IpAndPort: _text(
        "IP address and port",
        lambda text: parse_ip_and_port(text, default_port=53),
        "127.0.0.1:53",
        lambda value: format_ip_and_port(*value),
    ),
    ListenAddress: _text(
        "IP address and port",
        lambda text: parse_ip_and_port(text, lowest=0),
        "0.0.0.0:25",
        lambda value: format_ip_and_port(*value),
    ),
    Senders: ValueKind("table of arrays", _read_senders, lambda value: value_text(dict(value))),
}
"""Every type that a setting may have, besides enumerations and arrays of these."""
