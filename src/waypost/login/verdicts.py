"""Remembers recent password checks, so that the same password needs no second argon2 check.

The answers are in the memory that all workers share (`memory.py`), as keyed hashes under a key that is in no file. A
right password is remembered for ten minutes, so a mail program that comes back every few minutes costs no CPU time.
Some wrong ones are remembered for each network and account: a device that keeps trying an old password costs nothing,
and does not count as a guesser. Each hash covers the stored state of the account: after a change of the password, or
when the account is disabled, no old answer is found.
"""

import hmac
import struct
from collections.abc import Callable, Sequence

from waypost.login.memory import LoginMemory
from waypost.message.trace import Micros

_KEEP = 600 * 1_000_000
_WRONG_EACH = 4
_QUESTION = 24  # octets of a keyed hash
_SINCE = struct.Struct("<Q")


class Verdicts:
    """Remembers answers of password checks."""

    def __init__(self, memory: LoginMemory, now: Callable[[], Micros]) -> None:
        self._memory = memory
        self._now = now

    def question(self, argon2: str, disabled: bool, prepared: str) -> bytes:
        """Return the keyed hash under which the answer about a password is remembered."""
        asked = f"{argon2}\0{disabled}\0{prepared}".encode()
        return hmac.digest(self._memory.key, asked, "sha256")[:_QUESTION]

    def recall(self, network: str, account: str, question: bytes) -> bool | None:
        """Return the remembered answer: right, wrong, or None when there is not one."""
        with self._memory.locked():
            since, right = self._get(self._right(account))
            if right and not 0 <= self._now() - since < _KEEP:
                self._memory.answers.remove(self._right(account))
                right = []
            _, wrong = self._get(self._wrong(network, account))
        if _among(question, right):
            return True
        return False if _among(question, wrong) else None

    def remember(self, network: str, account: str, question: bytes, right: bool) -> None:
        """Remember an answer."""
        with self._memory.locked():
            if right:
                self._put(self._right(account), [question])
            else:
                name = self._wrong(network, account)
                _, wrong = self._get(name)
                self._put(name, [question, *wrong[: _WRONG_EACH - 1]])

    def forget(self, account: str) -> None:
        """Forget the right password. Wrong ones may stay: their hashes do not match a new state of the account."""
        with self._memory.locked():
            self._memory.answers.remove(self._right(account))

    def _right(self, account: str) -> bytes:
        return self._memory.name("right", account)

    def _wrong(self, network: str, account: str) -> bytes:
        return self._memory.name("wrong", network, account)

    def _get(self, name: bytes) -> tuple[Micros, list[bytes]]:
        """Return the time at which a row was written, and its questions, newest first."""
        held = self._memory.answers.get(name)
        if held is None:
            return 0, []
        (since,) = _SINCE.unpack_from(held)
        starts = range(_SINCE.size, _SINCE.size + _WRONG_EACH * _QUESTION, _QUESTION)
        questions = [held[start : start + _QUESTION] for start in starts]
        return since, [question for question in questions if any(question)]

    def _put(self, name: bytes, questions: Sequence[bytes]) -> None:
        self._memory.answers.put(name, _SINCE.pack(self._now()) + b"".join(questions), _worth)


def _worth(held: bytes) -> int:
    (since,) = _SINCE.unpack_from(held)
    return int(since)


def _among(question: bytes, known: Sequence[bytes]) -> bool:
    return any(hmac.compare_digest(one, question) for one in known)
