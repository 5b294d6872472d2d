"""What the clients were promised: messages that were taken, maildrops that were read, deletions that were answered."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.torture.letters import Letter, Returned, number_of, returned_by


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A host answered 250: under which trace id."""

    letter: Letter
    host: str
    trace: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A message as it was found somewhere: one of ours, or a report on one of ours."""

    header: bytes
    digest: bytes  # of all octets
    about: int | Returned


@dataclass
class Promises:
    """All messages of a run, by number. `unanswered` counts how often the whole of one was sent and no answer came:
    each time it may have been stored. `problems` is what clients saw and should not have seen.
    """

    seed: int
    letters: dict[int, Letter] = field(default_factory=dict)
    taken: dict[int, Acknowledged] = field(default_factory=dict)
    unanswered: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def acknowledge(self, letter: Letter, host: str, trace: str) -> None:
        """A host took a message."""
        self.taken[letter.number] = Acknowledged(letter, host, trace)

    def read(self, octets: bytes, where: str) -> Copy | None:
        """Tell what a message is that was found; None, and a problem, when nobody sent such a message."""
        header, digest = octets.partition(b"\r\n\r\n")[0] + b"\r\n", hashlib.sha256(octets).digest()
        returned = returned_by(octets, self.seed)
        if returned is not None and returned.number in self.letters:
            return Copy(header, digest, returned)
        number = number_of(octets, self.seed)
        letter = None if number is None or returned is not None else self.letters.get(number)
        if letter is None:
            self.problems.append(f"{where}: a message that nobody sent: {octets[:300]!r}")
            return None
        if not octets.endswith(letter.octets):
            self.problems.append(f"{where}: message {number} has other octets than were sent")
        return Copy(header, digest, letter.number)


@dataclass
class Maildrop:
    """What its one reader knows of a maildrop, over all sessions."""

    user: str
    promises: Promises
    copies: dict[int, Copy] = field(default_factory=dict)  # by UID, deleted or not
    deleted: set[int] = field(default_factory=set)
    doubtful: set[int] = field(default_factory=set)  # QUIT was not answered
    validity: int = 0
    highest: int = 0

    def look(self, unique_ids: Mapping[int, str]) -> dict[int, int]:
        """Compare a new session's list with all earlier ones; return the UIDs by message number."""
        pairs = {number: tuple(map(int, unique.split("."))) for number, unique in unique_ids.items()}
        uids = {number: uid for number, (_, uid) in pairs.items()}
        there = set(uids.values())
        for validity in {validity for validity, _ in pairs.values()}:
            if self.validity not in (0, validity):
                self._wrong(f"UIDVALIDITY was {self.validity}, and is {validity}")
            self.validity = validity
        self._settle_doubts(there)
        if back := there & self.deleted:
            self._wrong(f"deleted messages came back: UIDs {sorted(back)}")
        if lost := self.copies.keys() - self.deleted - there:
            self._wrong(f"messages that nobody deleted are gone: UIDs {sorted(lost)}")
        known = self.copies.keys() | self.seen
        if reused := {uid for uid in there - known if uid <= self.highest}:
            self._wrong(f"UIDs went back: {sorted(reused)} are new, {self.highest} was there before")
        self.seen |= there
        self.highest = max(self.highest, *there, 0)
        return uids

    def __post_init__(self) -> None:
        self.seen: set[int] = set()

    def _settle_doubts(self, there: set[int]) -> None:
        """A QUIT that was not answered deleted everything that was marked, or nothing."""
        left = self.doubtful & there
        if left and left != self.doubtful:
            self._wrong(f"a QUIT deleted by halves: {sorted(left)} of {sorted(self.doubtful)} are left")
        if not left:
            self.deleted |= self.doubtful
        self.doubtful = set()

    def keep(self, uid: int, octets: bytes) -> None:
        """A message was downloaded."""
        before = self.copies.get(uid)
        copy = self.promises.read(octets, f"maildrop of {self.user}, UID {uid}")
        if before is not None and copy != before:
            self._wrong(f"UID {uid} has other octets than before")
        if copy is not None:
            self.copies[uid] = copy

    def _wrong(self, words: str) -> None:
        self.promises.problems.append(f"maildrop of {self.user}: {words}")
