"""Checks a password against an account, with the same work for every user name, existing or not."""

import logging
from collections.abc import Callable
from typing import NoReturn

from waypost.login.claim import LoginClaim
from waypost.login.hashing import HashingBusy, HashPool
from waypost.login.memory import LoginMemory
from waypost.login.outcomes import LoginFault, LoginRefused
from waypost.login.passwords import NO_PASSWORD
from waypost.login.patience import LoginPatience, SessionOver
from waypost.login.throttle import Origin, Pass, Throttle
from waypost.login.verdicts import Verdicts
from waypost.message.trace import Micros
from waypost.protocol.sasl import PreparationError, saslprep
from waypost.storage import Account, Directory, KnownNetworks, StorageError

log = logging.getLogger(__name__)


class LoginChecker:
    """Looks accounts up, counts failures, checks passwords. It logs each refusal once."""

    def __init__(
        self,
        directory: Directory,
        networks: KnownNetworks | None,
        *,
        now: Callable[[], Micros],
        memory: LoginMemory,
        pool: HashPool,
    ) -> None:
        self._directory = directory
        self._networks = networks
        self._pool = pool
        self._now = now
        self._throttle = Throttle(memory, now)
        self._verdicts = Verdicts(memory, now)

    async def check(self, claim: LoginClaim, password: str, patience: LoginPatience) -> Account:
        """Wait for the login's turn, check the password, and return its account. Raises `LoginRefused`."""
        origin = await self.origin(claim)
        admitted = await self.admit(claim, origin, patience)
        try:
            prepared = saslprep(password)
        except PreparationError:
            self.fail(claim, origin, "the text can't be a password (RFC 4013)")
        while True:
            account = await self.account(claim)
            verdict = self._recall(claim, account, prepared)
            if verdict is not None:
                break
            try:
                async with self._pool.turn(self._throttle.standing(origin), claim.network):
                    # During the wait, others of this network may have failed, and one with this password succeeded.
                    account = await self.account(claim)
                    verdict = self._recall(claim, account, prepared)
                    if verdict is None and not self._throttle.must_wait(origin, admitted):
                        verdict = await self._verify(claim, account, prepared)
                        if not verdict:
                            self.fail(claim, origin, explain(claim, account))
            except HashingBusy as error:
                refuse(claim, LoginFault.UNAVAILABLE, str(error))
            if verdict is not None:
                break
            admitted = await self.admit(claim, origin, patience, waited=admitted.waited)
        if account is None or not verdict:
            refuse(claim, LoginFault.WRONG, "the same wrong password again")
        await self.succeed(claim)
        return account

    def _recall(self, claim: LoginClaim, account: Account | None, prepared: str) -> bool | None:
        return self._verdicts.recall(claim.network, claim.key, self._question(account, prepared))

    def _question(self, account: Account | None, prepared: str) -> bytes:
        if account is None:
            return self._verdicts.question(NO_PASSWORD, False, prepared)
        return self._verdicts.question(account.credentials.argon2, account.disabled, prepared)

    async def _verify(self, claim: LoginClaim, account: Account | None, prepared: str) -> bool:
        argon2 = NO_PASSWORD if account is None else account.credentials.argon2
        try:
            right = await self._pool.verify(argon2, prepared)
        except ValueError as error:
            refuse(claim, LoginFault.UNAVAILABLE, str(error))
        right = right and account is not None and not account.disabled
        self._verdicts.remember(claim.network, claim.key, self._question(account, prepared), right)
        return right

    async def origin(self, claim: LoginClaim) -> Origin:
        """Return the network of a claim, and whether the account knows it. Raises `LoginRefused` in storage trouble."""
        if self._networks is None:
            return Origin(claim.network, claim.key)
        try:
            return Origin(claim.network, claim.key, await self._networks.knows(claim.key, claim.network))
        except StorageError as error:
            refuse(claim, LoginFault.UNAVAILABLE, str(error))

    async def admit(self, claim: LoginClaim, origin: Origin, patience: LoginPatience, *, waited: bool = False) -> Pass:
        """Wait until a claim may go on; `waited` is True when it has waited once already. Raises `LoginRefused`."""
        while True:
            entry = self._throttle.enter(origin, waited=waited)
            if entry.refused:
                reason = f"too many failures: try again in {entry.refused} s"
                refuse(claim, LoginFault.THROTTLED, reason, seconds=entry.refused)
            if entry.wait:
                try:
                    await patience.wait(entry.wait)
                except SessionOver:
                    raise LoginRefused(LoginFault.UNAVAILABLE, "the session ended") from None
            if entry.turn or not entry.wait:
                return Pass(turn=entry.turn, waited=waited)
            waited = True

    async def account(self, claim: LoginClaim) -> Account | None:
        """Return the account of a claim, even a disabled one. Raises `LoginRefused` when storage is in trouble."""
        try:
            return await self._directory.account(claim.key)
        except StorageError as error:
            refuse(claim, LoginFault.UNAVAILABLE, str(error))

    async def succeed(self, claim: LoginClaim) -> None:
        """The claim is proved: remember its network as known to the account."""
        if self._networks is None:
            return
        try:
            await self._networks.remember(claim.key, claim.network, self._now())
        except StorageError as error:  # a full disk must not keep out a user who proved the claim
            fields = {"user": claim.key, "peer": claim.peer, "error": str(error)}
            log.warning("network of a login not remembered", extra={"fields": fields})

    def fail(self, claim: LoginClaim, origin: Origin, reason: str) -> NoReturn:
        """Count a wrong guess and refuse it. Raises `LoginRefused`."""
        seconds = self._throttle.failed(origin)
        refuse(claim, LoginFault.THROTTLED if seconds else LoginFault.WRONG, reason, seconds=seconds)

    def forget(self, address: str) -> None:
        """Forget the checks of an account's password."""
        self._verdicts.forget(address)


def explain(claim: LoginClaim, account: Account | None) -> str:
    """Return the reason of a wrong login, for our log only."""
    if not claim.key:
        return "the user name is not a full address"
    if account is None:
        return "unknown user"
    return "the account is disabled" if account.disabled else "wrong password"


def refuse(claim: LoginClaim, fault: LoginFault, reason: str, *, seconds: int = 0) -> NoReturn:
    """Log a refusal and raise it as `LoginRefused`."""
    level = logging.WARNING if fault is LoginFault.UNAVAILABLE else logging.INFO
    fields = {"user": claim.user, "peer": claim.peer, "mechanism": claim.mechanism, "reason": reason}
    log.log(level, "login refused", extra={"fields": fields})
    raise LoginRefused(fault, reason, seconds=seconds)
