"""What was found about passwords a short while ago, so that they need no second argon2 check.

Only keyed hashes are held, under a key of this process, in memory. A right password is remembered for ten
minutes: a mail program that comes back every few minutes costs no core then. Some wrong ones are remembered for
each network and account: a device that keeps trying an old password costs nothing, and is no guesser. Each hash
covers what the account's row held, so a changed password or a disabled account is a new question at once.
"""

import hmac
from collections.abc import Callable

from waypost.login.bounded import BoundedTable
from waypost.message.trace import Micros

_KEEP = 600 * 1_000_000
_WRONG_EACH = 4


class Verdicts:
    """Remembers answers of password checks. `key` is random and never leaves the process."""

    def __init__(self, now: Callable[[], Micros], key: bytes, *, most: int = 10_000) -> None:
        self._now = now
        self._key = key
        self._right: BoundedTable[str, tuple[bytes, Micros]] = BoundedTable(most)
        self._wrong: BoundedTable[tuple[str, str], tuple[bytes, ...]] = BoundedTable(most)

    def question(self, argon2: str, disabled: bool, prepared: str) -> bytes:
        """Return the keyed hash under which the answer about a password is remembered."""
        return hmac.digest(self._key, f"{argon2}\0{disabled}\0{prepared}".encode(), "sha256")

    def recall(self, network: str, account: str, question: bytes) -> bool | None:
        """Return what is known: right, wrong, or nothing (None)."""
        right = self._right.get(account)
        if right is not None:
            known, since = right
            if not 0 <= self._now() - since < _KEEP:
                self._right.remove(account)
            elif hmac.compare_digest(known, question):
                return True
        wrong = self._wrong.get((network, account)) or ()
        return False if any(hmac.compare_digest(known, question) for known in wrong) else None

    def remember(self, network: str, account: str, question: bytes, right: bool) -> None:
        """Remember an answer."""
        if right:
            self._right.put(account, (question, self._now()))
        else:
            wrong = self._wrong.get((network, account)) or ()
            self._wrong.put((network, account), (*wrong, question)[-_WRONG_EACH:])

    def forget(self, account: str) -> None:
        """Drop the password that was right; those that were wrong say nothing about a new one."""
        self._right.remove(account)
