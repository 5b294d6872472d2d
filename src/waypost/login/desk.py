"""The login desk: every login of every protocol is decided here (RFC 4422; RFC 4954 and RFC 5034 use it)."""

import os
from collections.abc import Callable

from waypost.login.attempt import LoginAttempt, PasswordAttempt, ScramAttempt
from waypost.login.checker import Checker
from waypost.login.claim import Claim
from waypost.login.hashing import HashPool
from waypost.message.trace import Micros
from waypost.protocol.sasl.scram import SCRAM, SCRAM_PLUS, bindings, make_nonce
from waypost.protocol.sasl.server import LoginServer, PlainServer, ScramServer
from waypost.protocol.session import TlsInfo
from waypost.storage import Account, Directory

__all__ = ["LoginAttempt", "LoginDesk"]

_WITHOUT_BINDING = (SCRAM, "PLAIN", "LOGIN")
_WITH_BINDING = (SCRAM_PLUS, *_WITHOUT_BINDING)


class LoginDesk:
    """Decides logins for one process. `now` gives microseconds since 1970, `random` that many random octets.

    `secret` makes up SCRAM salts for unknown users. Processes that answer on one address need one secret, 32
    random octets; a desk of its own makes one.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        now: Callable[[], Micros],
        random: Callable[[int], bytes] = os.urandom,
        secret: bytes | None = None,
        nonce: Callable[[], str] = make_nonce,
    ) -> None:
        self._pool = HashPool()
        self._checker = Checker(directory, now=now, key=random(32), pool=self._pool)
        self._secret = secret or random(32)
        self._nonce = nonce

    def mechanisms(self, tls: TlsInfo | None) -> tuple[str, ...]:
        """Return the SASL mechanisms to offer: none without TLS, -PLUS only where TLS gives a channel binding."""
        if tls is None:
            return ()
        return _WITH_BINDING if bindings(tls) else _WITHOUT_BINDING

    async def check_password(self, user: str, password: str, peer: str) -> Account:
        """Log in by user name and password (POP3's USER and PASS). Raises `LoginRefused`."""
        return await self._checker.check(Claim.of(user, peer, "USER"), password)

    def begin(self, mechanism: str, *, tls: TlsInfo | None, peer: str) -> LoginAttempt:
        """Begin a SASL login. Raises `KeyError` for a mechanism that `mechanisms(tls)` does not offer."""
        if mechanism not in self.mechanisms(tls):
            raise KeyError(mechanism)
        if mechanism in ("PLAIN", "LOGIN"):
            server = PlainServer() if mechanism == "PLAIN" else LoginServer()
            return PasswordAttempt(server, self._checker, peer=peer, mechanism=mechanism)
        scram = ScramServer(plus=mechanism == SCRAM_PLUS, bindings=bindings(tls), nonce=self._nonce())
        return ScramAttempt(scram, self._checker, peer=peer, mechanism=mechanism, secret=self._secret)

    def forget(self, address: str) -> None:
        """The account with this address key changed: drop what is remembered of its password."""
        self._checker.forget(address)

    def close(self) -> None:
        """End the threads that check passwords; logins that need one are refused from now on."""
        self._pool.close()
