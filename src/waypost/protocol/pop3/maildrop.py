"""The maildrop of one POP3 session: a snapshot taken at login, and the marks of DELE (RFC 1939 4 and 5).

Message numbers count from 1 and keep their meaning for the whole session.
"""

from array import array
from collections.abc import Iterable, Sequence


class Maildrop:
    """Sizes and unique ids of the messages, and which of them are marked.

    `messages` gives (uid, size in octets) in order. A unique id is `uidvalidity.uid`: that pair never names
    another message while the account exists.
    """

    __slots__ = ("_deleted", "_sizes", "_uids", "_uidvalidity", "octets")

    def __init__(self, uidvalidity: int, messages: Iterable[tuple[int, int]] = ()) -> None:
        self._uidvalidity = uidvalidity
        self._uids = array("Q")
        self._sizes = array("Q")
        self._deleted: set[int] = set()
        self.octets = 0
        """Octets of the messages that are not marked."""
        for uid, size in messages:
            self.add(uid, size)

    def add(self, uid: int, size: int) -> None:
        """Add a message after the others, while the snapshot is taken."""
        self._uids.append(uid)
        self._sizes.append(size)
        self.octets += size

    @property
    def count(self) -> int:
        """Messages that are not marked."""
        return len(self._sizes) - len(self._deleted)

    @property
    def total(self) -> int:
        """All messages, marked or not."""
        return len(self._sizes)

    @property
    def any_deleted(self) -> bool:
        """True when a message is marked."""
        return bool(self._deleted)

    @property
    def deleted(self) -> tuple[int, ...]:
        """The indexes of marked messages, in order."""
        return tuple(sorted(self._deleted))

    def index(self, number: int) -> int | None:
        """Return the index of message `number`; None when it does not exist or is marked."""
        if not 1 <= number <= len(self._sizes) or number - 1 in self._deleted:
            return None
        return number - 1

    def uid(self, index: int) -> int:
        """Return the UID of a message."""
        return self._uids[index]

    def size(self, index: int) -> int:
        """Return the octets of a message."""
        return self._sizes[index]

    def delete(self, index: int) -> None:
        """Mark a message that is not marked."""
        self._deleted.add(index)
        self.octets -= self._sizes[index]

    def reset(self) -> None:
        """Take all marks away."""
        self.octets += sum(self._sizes[index] for index in self._deleted)
        self._deleted.clear()

    def scan_line(self, index: int) -> bytes:
        """Return number and size of a message, as in LIST."""
        return b"%d %d\r\n" % (index + 1, self._sizes[index])

    def unique_line(self, index: int) -> bytes:
        """Return number and unique id of a message, as in UIDL: 1 to 41 characters of RFC 1939's 70."""
        return b"%d %d.%d\r\n" % (index + 1, self._uidvalidity, self._uids[index])

    def present(self) -> Sequence[int]:
        """Return the indexes of the messages that are not marked, in order."""
        if not self._deleted:
            return range(len(self._sizes))
        return [index for index in range(len(self._sizes)) if index not in self._deleted]
