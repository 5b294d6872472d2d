"""Reads a mailbox of a server by POP3: drives the POP3 client engine over one connection (RFC 1939)."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import BinaryIO

from waypost.client.connection import ClientConnection
from waypost.client.errors import ClientError, RefusedByServer
from waypost.client.places import Security, ServerPlace, other_scheme
from waypost.client.trust import Trust
from waypost.protocol.pop3.client import (
    Answered,
    ContentChunk,
    ContentEnded,
    Pop3Client,
    Pop3ClientEvent,
    Pop3Disconnected,
)
from waypost.protocol.sasl import choose

_MAX_LISTING = 16 * 1024 * 1024  # octets of CAPA, LIST and UIDL
_MAX_HEADER = 1024 * 1024  # octets of one header that are read
_AHEAD = 50  # commands that wait for their answers, where the server allows more than one


class RemoteMaildrop:
    """A mailbox that is open for this session alone. Messages have numbers, from 1, which are valid until `quit`.

    Every method raises `ClientError` with the server's words, and `RefusedByServer` if the session can go on.
    Without `quit`, the server removes nothing.
    """

    def __init__(
        self, place: ServerPlace, trust: Trust, password: Callable[[], str], *, plain_text_allowed: bool = False
    ) -> None:
        self._place = place
        self._engine = Pop3Client()
        self._greeted = False
        self._capabilities: dict[str, list[str]] = {}
        self._connection = ClientConnection(place, trust)
        try:
            self._open(plain_text_allowed)
            self._log_in(place.user or "", password())
            self.sizes = dict(_pairs(self._listing(self._engine.list, "LIST")))
            """The size of every message in octets, by its number."""
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> "RemoteMaildrop":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def unique_ids(self) -> dict[int, str]:
        """Return the id of every message, by its number; empty if the server does not support UIDL."""
        if "UIDL" not in self._capabilities:
            return {}
        return dict(_numbered(self._listing(self._engine.unique_ids, "UIDL")))

    def headers(self, numbers: Sequence[int]) -> Iterator[tuple[int, bytes | RefusedByServer]]:
        """Yield each message's header, in order, or the server's refusal to show it.

        A server without TOP sends whole messages for it.
        """
        top = "TOP" in self._capabilities
        ahead = _AHEAD if "PIPELINING" in self._capabilities else 1
        waiting: deque[int] = deque()
        for number in numbers:
            self._engine.top(number, 0) if top else self._engine.retrieve(number)
            waiting.append(number)
            if len(waiting) >= ahead:
                yield waiting[0], self._header(waiting.popleft())
        while waiting:
            yield waiting[0], self._header(waiting.popleft())

    def retrieve(self, number: int) -> Iterator[bytes]:
        """Yield the unchanged octets of a message, piece by piece."""
        self._engine.retrieve(number)
        yield from self._content(f"message {number}")

    def beginning(self, number: int, most: int) -> bytes:
        """Return a message, or its first `most` octets: a server may send without end."""
        kept = bytearray()
        for piece in self.retrieve(number):
            kept += piece[: most - len(kept)]
        return bytes(kept)

    def save(self, number: int, file: BinaryIO) -> None:
        """Write a message into a file."""
        for piece in self.retrieve(number):
            file.write(piece)

    def delete(self, number: int) -> None:
        """Mark a message; `quit` removes it."""
        self._engine.delete(number)
        self._expect_ok(f"message {number}")

    def quit(self) -> None:
        """Remove the marked messages, and end the session."""
        self._engine.quit()
        self._expect_ok("QUIT")

    # -- opening ------------------------------------------------------------------------------------------

    def _open(self, plain_text_allowed: bool) -> None:
        self._expect_ok("")
        self._ask_capabilities()
        if self._place.security is Security.STARTTLS:
            if "STLS" in self._capabilities:
                self._engine.start_tls()
                self._expect_ok("STLS")
                self._connection.start_tls()
                self._engine.tls_started()
                self._ask_capabilities()
            elif not plain_text_allowed:
                raise ClientError(f"{self._place}: the server offers no TLS, and the password must not be sent without")
        if "UTF8" in self._capabilities:
            self._engine.utf8()
            self._expect_ok("UTF8")

    def _ask_capabilities(self) -> None:
        self._capabilities = {}
        self._engine.capabilities()
        if not self._answer().ok:
            return  # an old server without CAPA; it may still know commands that it can't list
        for line in self._rest("CAPA").decode("utf-8", "replace").splitlines():
            name, *words = line.split() or [""]
            self._capabilities[name.upper()] = words

    def _log_in(self, user: str, password: str) -> None:
        offered = self._capabilities.get("SASL", [])
        try:
            mechanism = choose(offered, user, password, self._connection.tls)
            if mechanism is not None:
                self._engine.authenticate(mechanism)
            else:
                self._engine.user(user)
                self._expect_ok(f"login as {user}")
                self._engine.password(password)
        except ValueError as error:
            raise ClientError(f"login as {user}: {error}") from None
        self._expect_ok(f"login as {user}")
        if self._capabilities:
            self._ask_capabilities()  # a server may list some only after the login (RFC 2449 section 5)

    # -- answers ------------------------------------------------------------------------------------------

    def _listing(self, ask: Callable[[], None], name: str) -> bytes:
        ask()
        self._expect_ok(name)
        return self._rest(name)

    def _header(self, number: int) -> bytes | RefusedByServer:
        header = bytearray()
        try:
            for piece in self._content(f"message {number}"):
                if len(header) < _MAX_HEADER:
                    header += piece
        except RefusedByServer as refusal:
            return refusal
        return bytes(header)

    def _content(self, about: str) -> Iterator[bytes]:
        self._expect_ok(about)
        yield from self._pieces()

    def _rest(self, name: str) -> bytes:
        rest = bytearray()
        for piece in self._pieces():
            rest += piece
            if len(rest) > _MAX_LISTING:
                raise ClientError(f"{self._place}: the answer to {name} has no end")
        return bytes(rest)

    def _pieces(self) -> Iterator[bytes]:
        while not isinstance(event := self._next(), ContentEnded):
            if not isinstance(event, ContentChunk):
                raise AssertionError(f"{event} inside of content")
            yield event.octets

    def _expect_ok(self, about: str) -> None:
        answer = self._answer()
        if not answer.ok:
            code = f"[{answer.code}] " if answer.code else ""
            raise RefusedByServer(f"{self._place}: {about + ': ' if about else ''}-ERR {code}{answer.text}")

    def _answer(self) -> Answered:
        event = self._next()
        if not isinstance(event, Answered):
            raise AssertionError(f"{event} where an answer is due")
        return event

    def _next(self) -> Pop3ClientEvent:
        while (event := self._engine.next_event()) is None:
            output = self._engine.take_output()
            if output:
                self._connection.write(output)
            data = self._connection.read()
            if data:
                self._engine.receive(data)
            else:
                self._engine.receive_eof()
        if isinstance(event, Pop3Disconnected):
            hint = "" if self._greeted else f"; {other_scheme(self._place)}"
            raise ClientError(f"{self._place}: {event.reason}{hint}")
        self._greeted = True
        return event


def _numbered(listing: bytes) -> Iterator[tuple[int, str]]:
    """Yield the lines of LIST or UIDL: a message's number, and its size or id."""
    for line in listing.decode("ascii", "replace").splitlines():
        number, _, text = line.partition(" ")
        if number.isascii() and number.isdigit() and len(number) < 10:
            yield int(number), text


def _pairs(listing: bytes) -> Iterable[tuple[int, int]]:
    for number, text in _numbered(listing):
        size = text.split(" ")[0]
        yield number, int(size) if size.isascii() and size.isdigit() and len(size) < 19 else 0
