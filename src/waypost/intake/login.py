"""AUTH in an SMTP session (RFC 4954): passes the engine's events to the login desk, and its answers back as replies."""

from waypost.intake.client import Client
from waypost.login.attempt import LoginAttempt
from waypost.login.desk import LoginDesk
from waypost.login.outcomes import Challenge, LoginFault, LoginRefused
from waypost.protocol.reply import Reply
from waypost.protocol.session import TlsInfo
from waypost.protocol.smtp import replies


class SessionLogin:
    """Logs one client in. `desk` is None where AUTH is not offered."""

    def __init__(self, desk: LoginDesk | None) -> None:
        self._desk = desk
        self._attempt: LoginAttempt | None = None

    def mechanisms(self, tls: TlsInfo) -> tuple[str, ...]:
        """Return the mechanisms that AUTH offers over this connection."""
        return self._desk.mechanisms(tls) if self._desk is not None else ()

    async def begin(self, client: Client, mechanism: str, initial: bytes | None) -> bytes | Reply:
        """Begin with a mechanism that was offered; returns a challenge, or the reply that ends the exchange."""
        assert self._desk is not None
        self._attempt = self._desk.begin(mechanism, tls=client.peer.tls, peer=client.peer.address)
        return await self.step(client, initial)

    async def step(self, client: Client, data: bytes | None) -> bytes | Reply:
        """Take the client's answer; a login that succeeds sets `client.account`."""
        assert self._attempt is not None
        assert self._desk is not None
        try:
            said = await self._attempt.step(data)
        except LoginRefused as refused:
            self.cancel()
            return _refusal(refused)
        if isinstance(said, Challenge):
            return said.data
        self.cancel()
        client.account = said.account  # from now on a change of the account finds the session (`Session.account`)
        if not await self._desk.may_go_on(said.account):
            client.account = None
            return replies.AUTH_FAILED
        return replies.AUTHENTICATED

    def cancel(self) -> None:
        """Forget the exchange."""
        self._attempt = None

    def end(self) -> None:
        """The session is over: give up a login that waits for its turn."""
        if self._attempt is not None:
            self._attempt.give_up()
        self.cancel()

    @property
    def required(self) -> bool:
        """True where clients must log in."""
        return self._desk is not None


def _refusal(refused: LoginRefused) -> Reply:
    """Return the reply to a login that failed (RFC 4954 section 6)."""
    match refused.fault:
        case LoginFault.THROTTLED:
            return replies.throttled(refused.seconds)
        case LoginFault.BINDING:
            return replies.AUTH_BINDING
        case LoginFault.MALFORMED:
            return replies.AUTH_MALFORMED
        case LoginFault.UNAVAILABLE:
            return replies.AUTH_TEMPORARY
        case LoginFault.WRONG:
            return replies.AUTH_FAILED
