"""Real servers on loopback for the mail program: our own server engines behind blocking sockets, a thread each."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from waypost.message.envelope import Envelope
from waypost.protocol.pop3 import events as pop3
from waypost.protocol.pop3 import replies as pop3_replies
from waypost.protocol.pop3.maildrop import Maildrop
from waypost.protocol.pop3.server import Pop3Options, Pop3Server
from waypost.protocol.reply import Reply, reply
from waypost.protocol.sasl.end_point import server_end_point
from waypost.protocol.sasl.scram import SaslError, ScramKeys, derive_keys
from waypost.protocol.sasl.server import PasswordClaim, PlainServer, ScramClaim, ScramServer
from waypost.protocol.smtp import events as smtp
from waypost.protocol.smtp.server import ServerOptions, SmtpServer

ALICE = "alice@wonderland.test"
PASSWORD = "white rabbit"
TRACE = "03afpkd2vvg00"
ALL = ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN")
_PATIENCE = 100.0  # seconds; a test that hangs is ended by its own timeout, and a busy machine is no reason to end


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key: `context` for a server, `file` for a client's --ca."""

    context: ssl.SSLContext
    file: Path
    end_point: bytes | None


def certified(folder: Path, *names: str) -> Certificate:
    """Return a certificate for `names` by an authority of its own, whose certificate is in `file`."""
    authority = trustme.CA()
    leaf = authority.issue_cert(*names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    path = folder / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return Certificate(context, path, _end_point(leaf.cert_chain_pems[0].bytes()))


def self_signed(folder: Path, name: str) -> Certificate:
    """Return a certificate as `waypost init` makes one: signed by itself, for a name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key_path)
    return Certificate(context, path, _end_point(path.read_bytes()))


def _end_point(pem: bytes) -> bytes | None:
    return server_end_point(ssl.PEM_cert_to_DER_cert(pem.decode()))


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve connections on a loopback port, each in a thread; yields the port. An error of a thread is raised."""
    errors: list[BaseException] = []
    threads: list[threading.Thread] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def one(connection: socket.socket) -> None:
        with connection:
            try:
                serve(connection)
            except (ConnectionError, ssl.SSLError):
                pass  # the client went away, as clients do
            except BaseException as error:  # noqa: BLE001  # handed to the test
                errors.append(error)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(_PATIENCE)
            threads.append(threading.Thread(target=one, args=[connection]))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in [accepting, *threads]:
            thread.join(_PATIENCE)
    if errors:
        raise errors[0]


class _Login:
    """The server's side of one login; the keys and passwords of everybody are those of Alice."""

    KEYS: ScramKeys = derive_keys(PASSWORD, b"salt of a server", 4096)

    def __init__(self, mechanism: str, end_point: bytes | None) -> None:
        self.user = ""
        self._plain = PlainServer()
        self._proof: bytes | None = None
        self._challenged = False
        bindings = {"tls-server-end-point": end_point} if end_point else {}
        self._scram = (
            ScramServer(plus=mechanism.endswith("PLUS"), bindings=bindings, nonce="n0nce")
            if mechanism != "PLAIN"
            else None
        )

    def step(self, data: bytes | None) -> bytes | bool:
        """Return a challenge, or whether the login is right."""
        if self._scram is None:
            claim = self._plain.step(data)
            if isinstance(claim, bytes):
                return claim
            return isinstance(claim, PasswordClaim) and (claim.user, claim.password) == (ALICE, PASSWORD)
        if data is None:
            return b""
        if self._proof is not None:
            return True
        if not self._challenged:
            first = self._scram.first(data)
            self._challenged = True
            return self._scram.challenge(self.KEYS) if isinstance(first, ScramClaim) else False
        try:
            self._proof = self._scram.final(data)
        except SaslError:
            return False
        return self._proof


@dataclass
class SmtpPlace:
    """An SMTP server that keeps what it gets. `refuse` maps an address to the reply to its RCPT."""

    certificate: Certificate | None = None
    implicit: bool = False
    mechanisms: tuple[str, ...] = ALL
    refuse: dict[str, Reply] = field(default_factory=dict)
    final: Reply = field(default_factory=lambda: reply(250, "2.0.0", f"Accepted as {TRACE}"))
    messages: list[tuple[Envelope, bytes]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    _content: bytes = b""
    _envelope: Envelope | None = None

    def serve(self, connection: socket.socket) -> None:
        """Serve one connection."""
        secured = self.implicit and self.certificate is not None
        if self.implicit and self.certificate is not None:
            connection = self.certificate.context.wrap_socket(connection, server_side=True)
        options = ServerOptions(
            "mx.wonderland.test",
            submission=True,
            starttls=self.certificate is not None,
            mechanisms=self.mechanisms if self.certificate is not None else (),
        )
        engine = SmtpServer(options, now=lambda: 0, tls=secured)
        engine.greet()
        login: _Login | None = None
        with contextlib.ExitStack() as opened:
            opened.enter_context(connection)
            while True:
                while (event := engine.next_event()) is not None:
                    match event:
                        case smtp.StartTls() if self.certificate is not None:
                            engine.answer(reply(220, None, "Begin TLS"))
                            connection.sendall(engine.take_output())
                            connection = self.certificate.context.wrap_socket(connection, server_side=True)
                            opened.enter_context(connection)
                            engine.tls_started()
                        case smtp.AuthStarted(mechanism, initial):
                            login = _Login(mechanism, self.certificate.end_point if self.certificate else None)
                            self.logins.append(mechanism)
                            self._step(engine, login, initial)
                        case smtp.AuthResponse(data) if login is not None:
                            self._step(engine, login, data)
                        case _:
                            self._transact(engine, event)
                output = engine.take_output()
                if output:
                    connection.sendall(output)
                if engine.closed:
                    return
                data = connection.recv(65536)
                engine.receive(data) if data else engine.receive_eof()

    @staticmethod
    def _step(engine: SmtpServer, login: _Login, data: bytes | None) -> None:
        result = login.step(data)
        if isinstance(result, bytes):
            engine.challenge(result)
        elif result:
            engine.answer(reply(235, "2.7.0", "Welcome"))
        else:
            engine.answer(reply(535, "5.7.8", "Wrong name or password"))

    def _transact(self, engine: SmtpServer, event: smtp.ServerEvent) -> None:
        match event:
            case smtp.Hello():
                engine.answer(reply(250, None, "hello"))
            case smtp.MailOffered(envelope):
                self._envelope, self._content = envelope, b""
                engine.answer(reply(250, "2.1.0", "Go on"))
            case smtp.RecipientOffered(recipient):
                engine.answer(self.refuse.get(str(recipient.address), reply(250, "2.1.5", "Go on")))
            case smtp.DataStarted():
                self._envelope = engine.envelope
                engine.answer(reply(354, None, "Go on"))
            case smtp.MessageChunk(data):
                self._content += data
            case smtp.MessageEnded() if self._envelope is not None:
                self.messages.append((self._envelope, self._content))
                engine.answer(self.final)


@dataclass
class Pop3Place:
    """A POP3 server with a maildrop of `messages`; `removed` are the indexes deleted at QUIT."""

    messages: list[bytes]
    certificate: Certificate | None = None
    implicit: bool = False
    mechanisms: tuple[str, ...] = ALL
    removed: list[int] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)

    def serve(self, connection: socket.socket) -> None:
        """Serve one connection."""
        if self.implicit and self.certificate is not None:
            connection = self.certificate.context.wrap_socket(connection, server_side=True)
        options = Pop3Options("mx.wonderland.test", starttls=self.certificate is not None)
        engine = Pop3Server(options, tls=self.implicit, mechanisms=self.mechanisms)
        engine.greet()
        login: _Login | None = None
        with contextlib.ExitStack() as opened:
            opened.enter_context(connection)
            while True:
                while (event := engine.next_event()) is not None:
                    match event:
                        case pop3.StartTls() if self.certificate is not None:
                            engine.answer(pop3_replies.START_TLS)
                            connection.sendall(engine.take_output())
                            connection = self.certificate.context.wrap_socket(connection, server_side=True)
                            opened.enter_context(connection)
                            engine.tls_started(self.mechanisms)
                        case pop3.AuthStarted(mechanism, initial):
                            login = _Login(mechanism, self.certificate.end_point if self.certificate else None)
                            self.logins.append(mechanism)
                            self._enter(engine, login.step(initial))
                        case pop3.AuthResponse(data) if login is not None:
                            self._enter(engine, login.step(data))
                        case pop3.PasswordGiven(user, password):
                            self.logins.append("USER")
                            self._enter(engine, (user, password) == (ALICE, PASSWORD))
                        case pop3.MessageWanted(index, _):
                            engine.begin(len(self.messages[index]))
                            engine.write(self.messages[index])
                            engine.end()
                        case pop3.Leaving(deleted):
                            self.removed.extend(deleted)
                            engine.answer(pop3_replies.BYE)
                output = engine.take_output()
                if output:
                    connection.sendall(output)
                if engine.closed:
                    return
                data = connection.recv(65536)
                engine.receive(data) if data else engine.receive_eof()

    def _enter(self, engine: Pop3Server, result: bytes | bool) -> None:
        if isinstance(result, bytes):
            engine.challenge(result)
        elif result:
            engine.enter(Maildrop(7, [(11 + number, len(text)) for number, text in enumerate(self.messages)]))
        else:
            engine.answer(pop3_replies.err("Wrong name or password", "AUTH"))


def scripted(*turns: bytes) -> Callable[[socket.socket], None]:
    """Return a server that says one turn, waits for whatever the client says, says the next, and hangs up."""

    def serve(connection: socket.socket) -> None:
        for number, turn in enumerate(turns):
            if number:
                connection.recv(65536)
            connection.sendall(turn)

    return serve
