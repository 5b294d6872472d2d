"""The login desk: every login of every protocol is decided here (RFC 4422; RFC 4954 and RFC 5034 use it)."""

import logging
import os
from collections.abc import Awaitable, Callable

from waypost.login.attempt import LoginAttempt, PasswordAttempt, ScramAttempt
from waypost.login.checker import LoginChecker
from waypost.login.claim import LoginClaim
from waypost.login.hashing import HashPool
from waypost.login.memory import LoginMemory
from waypost.login.patience import LoginPatience
from waypost.message.trace import Micros
from waypost.protocol.sasl.scram import SCRAM, SCRAM_PLUS, bindings, make_nonce
from waypost.protocol.sasl.server import LoginServer, PlainServer, ScramServer
from waypost.protocol.session import TlsInfo
from waypost.storage import Account, Directory, KnownNetworks, StorageError

log = logging.getLogger(__name__)

__all__ = ["LoginAttempt", "LoginDesk"]

_WITHOUT_BINDING = (SCRAM, "PLAIN", "LOGIN")
_WITH_BINDING = (SCRAM_PLUS, *_WITHOUT_BINDING)


class LoginDesk:
    """Decides logins for one process. `now` gives microseconds since 1970, `random(n)` gives n random octets.

    `networks` stores the networks that are known to each account; without it, no network is known. `memory` counts
    failures, and `secret` (32 random octets) makes up SCRAM keys for unknown users: all processes that answer on one
    address must share both; a desk without them makes its own. Without `channel_binding`, no mechanism is offered that
    binds a login to its TLS channel. `sleep` waits for seconds.
    """

    def __init__(
        self,
        directory: Directory,
        networks: KnownNetworks | None = None,
        *,
        now: Callable[[], Micros],
        memory: LoginMemory | None = None,
        random: Callable[[int], bytes] = os.urandom,
        secret: bytes | None = None,
        channel_binding: bool = True,
        nonce: Callable[[], str] = make_nonce,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self._pool = HashPool()
        memory = memory or LoginMemory.create(random)
        self._checker = LoginChecker(directory, networks, now=now, memory=memory, pool=self._pool)
        self._directory = directory
        self._secret = secret or random(32)
        self._channel_binding = channel_binding
        self._nonce = nonce
        self._sleep = sleep

    def patience(self) -> LoginPatience:
        """Return the object by which a login waits; the session calls its `end` to end the wait."""
        return LoginPatience(self._sleep)

    def mechanisms(self, tls: TlsInfo | None) -> tuple[str, ...]:
        """Return the SASL mechanisms to offer: () without TLS; -PLUS only where TLS gives a channel binding."""
        if tls is None:
            return ()
        return _WITH_BINDING if self._bindings(tls) else _WITHOUT_BINDING

    def _bindings(self, tls: TlsInfo | None) -> dict[str, bytes]:
        return bindings(tls) if self._channel_binding else {}

    async def check_password(
        self, user: str, password: str, peer: str, patience: LoginPatience | None = None
    ) -> Account:
        """Log in by user name and password (POP3's USER and PASS). Raises `LoginRefused`."""
        return await self._checker.check(LoginClaim.of(user, peer, "USER"), password, patience or self.patience())

    def begin(self, mechanism: str, *, tls: TlsInfo | None, peer: str) -> LoginAttempt:
        """Begin a SASL login. Raises `KeyError` for a mechanism that `mechanisms(tls)` does not offer."""
        if mechanism not in self.mechanisms(tls):
            raise KeyError(mechanism)
        if mechanism in ("PLAIN", "LOGIN"):
            server = PlainServer() if mechanism == "PLAIN" else LoginServer()
            return PasswordAttempt(server, self._checker, self.patience(), peer=peer, mechanism=mechanism)
        scram = ScramServer(plus=mechanism == SCRAM_PLUS, bindings=self._bindings(tls), nonce=self._nonce())
        return ScramAttempt(scram, self._checker, self.patience(), peer=peer, mechanism=mechanism, secret=self._secret)

    async def may_go_on(self, account: Account) -> bool:
        """True unless an account was disabled or removed, or got another password, while a login to it was decided.

        Call it after the session was registered under the account. So a session can't escape a change of the account:
        either the change ends it, or this call refuses it.
        """
        try:
            return account.may_go_on(await self._directory.account(account.address))
        except StorageError as error:
            fields = {"account": account.address, "error": str(error)}
            log.warning("login not confirmed", extra={"fields": fields})
            return False

    def forget(self, address: str) -> None:
        """The account with this address key changed: forget the checks of its password."""
        self._checker.forget(address)

    def close(self) -> None:
        """End the threads that check passwords; logins that need one are refused from now on."""
        self._pool.close()
