"""The one encoder and the one decoder of events: between their types and the octets that an engine stores.

The octets are a JSON array of [time, kind, details], one for each event of a message; details are an object, the fields
of the kind that are not at their default, by name. A reply is an array of code, enhanced status code and lines. Version
0.1.0 wrote replies and trace ids as text, which is read, too.
"""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import msgspec

from waypost.journal.events import Details, Event, Unknown
from waypost.message.reply import parse_reply
from waypost.message.trace import TraceId, parse_trace_id


class UnreadableEvent(ValueError):
    """Octets that nobody here wrote."""


_json = msgspec.json.Encoder().encode
_rows = msgspec.json.Decoder(list[tuple[int, str, msgspec.Raw]]).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode
_KINDS: dict[str, type[Details]] = {kind.station: kind for kind in get_args(Details) if kind is not Unknown}
_readers: dict[str, Callable[[bytes], Details]] = {
    name: msgspec.json.Decoder(kind).decode for name, kind in _KINDS.items()
}


def encode(events: Sequence[Event]) -> bytes:  # hot: bench/accept
    """Return the octets that stand for events of one message. Engines store them with its trace id and a time."""
    return _json([[event.time, event.details.station, _stored(event.details)] for event in events])


def _stored(details: Details) -> Details | dict[str, Any]:
    return details.values if type(details) is Unknown else details


def decode(trace: TraceId, octets: str | bytes) -> list[Event]:
    """Return the events of a message that octets stand for; what is of no kind of this version becomes `Unknown`.

    Raises `UnreadableEvent` for octets that nobody here wrote.
    """
    try:
        return [Event(trace, time, _details(kind, bytes(details))) for time, kind, details in _rows(octets)]
    except ValueError as error:
        raise UnreadableEvent(str(error)) from error


def _details(kind: str, octets: bytes) -> Details:
    read = _readers.get(kind)
    if read is not None:
        try:
            return read(octets)
        except msgspec.ValidationError:
            pass  # of another version
    values = _object(octets)
    if kind in _KINDS:
        try:
            return msgspec.convert(_from_first_version(values), _KINDS[kind])
        except ValueError:
            pass
    return Unknown(station=kind, values=values)


def _from_first_version(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a row of 0.1.0 as today's. Raises `ValueError` for a trace id that is not one."""
    now = dict(values)
    reply = now.pop("reply", None)
    if isinstance(reply, str):
        parsed = parse_reply(reply)
        if parsed is None:
            now.setdefault("problem", reply)
        else:
            now["reply"] = parsed
    elif reply is not None:
        now["reply"] = reply
    for name in ("dsn", "about"):
        if isinstance(now.get(name), str):
            now[name] = parse_trace_id(now[name])
    return now
