"""The errors of the storage interfaces, classified by what can mend them."""


class StorageError(Exception):
    """Storage could not do the operation; the session answers 451 and nothing was written."""


class StorageFull(StorageError):
    """There is no space, or nothing may be written: the session answers 452 4.3.1. Storage recovers by itself."""


class Damaged(StorageError):
    """Stored data is damaged: operations that need it fail each time, until it is mended.

    `waypost storage check` names it.
    """


class Unfit(StorageError):
    """The stored data can't be used as it is: the message says what the operator can do. Nothing was changed."""


class Conflict(StorageError):
    """It exists already, or is in use (an address that is taken, a mailbox that is locked)."""


class AccountChanged(StorageError):
    """The account in whose name the operation was requested was disabled or removed, or has another password now."""


class NotFound(StorageError):
    """The object does not exist: an account, an alias, a message that was removed."""
