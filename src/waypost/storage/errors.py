"""What can go wrong below the storage interfaces, told apart by who can mend it."""


class StorageError(Exception):
    """Storage could not do what was asked; the session answers 451 and nothing was written."""


class StorageFull(StorageError):
    """No space (ENOSPC, EDQUOT, SQLITE_FULL) or a read-only disk: answered 452 4.3.1; recovers alone."""


class Damaged(StorageError):
    """A row or a page does not hold what was written: what needs it fails each time, until it is mended.

    `waypost storage check` names it.
    """


class Unfit(StorageError):
    """The data directory can't be used as it is: the message says what its operator can do. Nothing was changed."""


class Conflict(StorageError):
    """The row exists already, or is in use (an address that is taken, a mailbox that is locked)."""


class AccountChanged(StorageError):
    """The account in whose name something was asked was disabled or removed, or has another password now."""


class NotFound(StorageError):
    """No such row: an account, an alias, a message that is gone."""
