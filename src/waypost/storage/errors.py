"""What can go wrong below the storage interfaces, told apart by who can mend it."""


class StorageError(Exception):
    """Storage could not do what was asked; the session answers 451 and nothing was written."""


class StorageFull(StorageError):
    """There is no space, or nothing may be written: answered 452 4.3.1; recovers alone."""


class Damaged(StorageError):
    """What is stored is not what was written: what needs it fails each time, until it is mended.

    `waypost storage check` names it.
    """


class Unfit(StorageError):
    """What is stored can't be used as it is: the message says what its operator can do. Nothing was changed."""


class Conflict(StorageError):
    """It exists already, or is in use (an address that is taken, a mailbox that is locked)."""


class AccountChanged(StorageError):
    """The account in whose name something was asked was disabled or removed, or has another password now."""


class NotFound(StorageError):
    """There is no such thing: an account, an alias, a message that is gone."""
