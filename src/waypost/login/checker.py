"""Checks a password against an account, with the same work for every user name."""

import logging
from collections.abc import Callable
from typing import NoReturn

from waypost.login.claim import Claim
from waypost.login.hashing import HashingBusy, HashPool
from waypost.login.outcomes import LoginFault, LoginRefused
from waypost.login.passwords import NO_PASSWORD
from waypost.login.throttle import Throttle
from waypost.login.verdicts import Verdicts
from waypost.message.trace import Micros
from waypost.protocol.sasl import PreparationError, saslprep
from waypost.storage import Account, Directory, StorageError

log = logging.getLogger(__name__)


class Checker:
    """Looks accounts up, counts failures, checks passwords. What it refuses it logs, once."""

    def __init__(self, directory: Directory, *, now: Callable[[], Micros], key: bytes, pool: HashPool) -> None:
        self._directory = directory
        self._pool = pool
        self._throttle = Throttle(now)
        self._verdicts = Verdicts(now, key)

    async def check(self, claim: Claim, password: str) -> Account:
        """Return the account whose password this is. Raises `LoginRefused`."""
        self.admit(claim)
        try:
            prepared = saslprep(password)
        except PreparationError:
            self.fail(claim, "no password is like this one")
        account = await self.account(claim)
        verdict = self._recall(claim, account, prepared)
        if verdict is None:
            try:
                async with self._pool.turn():
                    self.admit(claim)  # others of this network may have failed meanwhile
                    account = await self.account(claim)
                    verdict = self._recall(claim, account, prepared)
                    if verdict is None:
                        verdict = await self._verify(claim, account, prepared)
            except HashingBusy as error:
                refuse(claim, LoginFault.UNAVAILABLE, str(error))
            if not verdict:
                self.fail(claim, explain(claim, account))
        if account is None or not verdict:
            refuse(claim, LoginFault.WRONG, "the same wrong password again")
        self.succeed(claim)
        return account

    def _recall(self, claim: Claim, account: Account | None, prepared: str) -> bool | None:
        return self._verdicts.recall(claim.network, claim.key, self._question(account, prepared))

    def _question(self, account: Account | None, prepared: str) -> bytes:
        if account is None:
            return self._verdicts.question(NO_PASSWORD, False, prepared)
        return self._verdicts.question(account.credentials.argon2, account.disabled, prepared)

    async def _verify(self, claim: Claim, account: Account | None, prepared: str) -> bool:
        argon2 = NO_PASSWORD if account is None else account.credentials.argon2
        try:
            right = await self._pool.verify(argon2, prepared)
        except ValueError as error:
            refuse(claim, LoginFault.UNAVAILABLE, str(error))
        right = right and account is not None and not account.disabled
        self._verdicts.remember(claim.network, claim.key, self._question(account, prepared), right)
        return right

    def admit(self, claim: Claim) -> None:
        """Let a claim go on. Raises `LoginRefused` when it comes too soon after failures."""
        seconds = self._throttle.wait(claim.network, claim.key)
        if seconds:
            refuse(claim, LoginFault.THROTTLED, f"too soon after failures: {seconds} s to wait", seconds=seconds)

    async def account(self, claim: Claim) -> Account | None:
        """Return the account of a claim, disabled ones too. Raises `LoginRefused` when storage is in trouble."""
        try:
            return await self._directory.account(claim.key)
        except StorageError as error:
            refuse(claim, LoginFault.UNAVAILABLE, str(error))

    def succeed(self, claim: Claim) -> None:
        """The claim is proved."""
        self._throttle.succeeded(claim.network, claim.key)

    def fail(self, claim: Claim, reason: str) -> NoReturn:
        """Count a wrong guess and refuse it. Raises `LoginRefused`."""
        self._throttle.failed(claim.network, claim.key)
        refuse(claim, LoginFault.WRONG, reason)

    def forget(self, address: str) -> None:
        """Drop what is remembered of an account's password."""
        self._verdicts.forget(address)


def explain(claim: Claim, account: Account | None) -> str:
    """Return the reason of a wrong login, for our log only."""
    if not claim.key:
        return "the user name is no full address"
    if account is None:
        return "unknown user"
    return "the account is disabled" if account.disabled else "wrong password"


def refuse(claim: Claim, fault: LoginFault, reason: str, *, seconds: int = 0) -> NoReturn:
    """Log a refusal and raise it as `LoginRefused`."""
    level = logging.WARNING if fault is LoginFault.UNAVAILABLE else logging.INFO
    fields = {"user": claim.user, "peer": claim.peer, "mechanism": claim.mechanism, "reason": reason}
    log.log(level, "login refused", extra={"fields": fields})
    raise LoginRefused(fault, reason, seconds=seconds)
