"""SASL logins under way: the mechanisms of `protocol/sasl` joined with the accounts (RFC 4422 section 3)."""

import hmac
from typing import NoReturn, Protocol

from waypost.login.checker import LoginChecker, explain, refuse
from waypost.login.claim import LoginClaim, account_key
from waypost.login.outcomes import Challenge, LoginFault, Welcome
from waypost.login.passwords import SALT_LENGTH, SCRAM_ITERATIONS
from waypost.login.patience import LoginPatience
from waypost.login.throttle import Origin
from waypost.protocol.sasl.scram import SaslError, ScramKeys
from waypost.protocol.sasl.server import Distrusted, LoginServer, PlainServer, ScramServer, UnsupportedBinding
from waypost.storage import Account


class LoginAttempt(Protocol):
    """A SASL exchange, from the initial response to its end."""

    async def step(self, data: bytes | None) -> Challenge | Welcome:
        """Take the client's next message; None when there is no initial response. Raises `LoginRefused`."""
        ...

    def give_up(self) -> None:
        """The session is over: refuse a step that still waits for its turn."""
        ...


class PasswordAttempt:
    """PLAIN or LOGIN: ends with a password to check."""

    def __init__(
        self,
        server: PlainServer | LoginServer,
        checker: LoginChecker,
        patience: LoginPatience,
        *,
        peer: str,
        mechanism: str,
    ) -> None:
        self._server = server
        self._checker = checker
        self._patience = patience
        self._nobody = LoginClaim.of("", peer, mechanism)

    async def step(self, data: bytes | None) -> Challenge | Welcome:
        """Take the client's next message. Raises `LoginRefused`."""
        try:
            said = self._server.step(data)
        except SaslError as error:
            refuse(self._nobody, LoginFault.MALFORMED, str(error))
        if isinstance(said, bytes):
            return Challenge(said)
        claim = LoginClaim.of(said.user, self._nobody.peer, self._nobody.mechanism)
        check_identity(claim, said.authzid)
        return Welcome(await self._checker.check(claim, said.password, self._patience))

    def give_up(self) -> None:
        """The session is over."""
        self._patience.end()


class ScramAttempt:
    """SCRAM: first the keys for the name, real or made up, then the proof, then the welcome.

    From `secret`, an unknown name gets the same made-up keys each time: the processes of a service must share it, so
    that they all answer alike.
    """

    def __init__(
        self,
        server: ScramServer,
        checker: LoginChecker,
        patience: LoginPatience,
        *,
        peer: str,
        mechanism: str,
        secret: bytes,
    ) -> None:
        self._server = server
        self._checker = checker
        self._patience = patience
        self._secret = secret
        self._claim = LoginClaim.of("", peer, mechanism)
        self._origin = Origin("", "")
        self._account: Account | None = None
        self._next = self._first

    async def step(self, data: bytes | None) -> Challenge | Welcome:
        """Take the client's next message. Raises `LoginRefused`."""
        if data is None:
            return Challenge(b"")  # the client begins (RFC 5802 section 5)
        try:
            return await self._next(data)
        except Distrusted as error:
            self._distrust(str(error))
        except UnsupportedBinding as error:
            refuse(self._claim, LoginFault.BINDING, str(error))
        except SaslError as error:
            refuse(self._claim, LoginFault.MALFORMED, str(error))

    def give_up(self) -> None:
        """The session is over."""
        self._patience.end()

    async def _first(self, data: bytes) -> Challenge | Welcome:
        wanted = self._server.first(data)
        self._claim = LoginClaim.of(wanted.user, self._claim.peer, self._claim.mechanism)
        check_identity(self._claim, wanted.authzid)
        self._account = await self._checker.account(self._claim)
        self._next = self._final
        return Challenge(self._server.challenge(self._keys()))

    async def _final(self, data: bytes) -> Challenge | Welcome:
        self._origin = await self._checker.origin(self._claim)
        await self._checker.admit(self._claim, self._origin, self._patience)  # only a proof counts as a guess
        proof = self._server.final(data)
        account = await self._checker.account(self._claim)  # it may have changed during a wait
        if account is None or account.disabled:
            self._checker.fail(self._claim, self._origin, explain(self._claim, account))
        if self._account is None or account.credentials != self._account.credentials:
            self._checker.fail(self._claim, self._origin, "the password was changed meanwhile")
        self._account = account
        await self._checker.succeed(self._claim)
        self._next = self._last
        return Challenge(proof)

    async def _last(self, data: bytes) -> Challenge | Welcome:
        if data or self._account is None:
            raise SaslError("the answer to the server's proof must be empty")
        return Welcome(self._account)

    def _distrust(self, reason: str) -> NoReturn:
        if self._next == self._final:
            words = reason if self._account else explain(self._claim, None)
            self._checker.fail(self._claim, self._origin, words)
        refuse(self._claim, LoginFault.WRONG, reason)

    def _keys(self) -> ScramKeys:
        if self._account is not None:
            kept = self._account.credentials
            return ScramKeys(kept.scram_salt, kept.scram_iterations, kept.scram_stored_key, kept.scram_server_key)
        name = (self._claim.key or self._claim.user).encode()
        salt, stored, server = (hmac.digest(self._secret, use + name, "sha256") for use in (b"1", b"2", b"3"))
        return ScramKeys(salt[:SALT_LENGTH], SCRAM_ITERATIONS, stored, server)


def check_identity(claim: LoginClaim, authzid: str) -> None:
    """Refuse a login that asks to act as another user (RFC 4422 3.4.1). Raises `LoginRefused`."""
    if authzid and account_key(authzid) != claim.key:
        refuse(claim, LoginFault.WRONG, "the authorization identity is that of another user")
