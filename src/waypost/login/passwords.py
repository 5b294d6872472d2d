"""The stored form of a password: an argon2id hash (RFC 9106) and SCRAM-SHA-256 keys (RFC 5803).

The figures are measured in milliseconds of one core of the machine that Waypost was built on: argon2id with
64 MiB and three passes, the memory and passes of RFC 9106's second recommendation, takes 133 ms. One lane
instead of its four costs an attacker the same and keeps a check to one core, so that logins can't crowd out
delivery. 10,000 rounds of PBKDF2 take 2 ms; the client pays them.
"""

import os
from collections.abc import Callable

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from argon2.low_level import error_to_str

from waypost.protocol.sasl.prep import saslprep
from waypost.protocol.sasl.scram import derive_keys
from waypost.storage import Credentials

SCRAM_ITERATIONS = 10_000
"""Rounds for new SCRAM keys; RFC 7677 section 4 asks for 4,096 at least."""

SALT_LENGTH = 16
"""Octets of each salt (RFC 9106 3.1)."""

_HASHER = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1, salt_len=SALT_LENGTH)

_NO_MEMORY = error_to_str(-22)  # ARGON2_MEMORY_ALLOCATION_ERROR

NO_PASSWORD = "$argon2id$v=19$m=65536,t=3,p=1$" + "A" * 22 + "$" + "A" * 43
"""A hash without a known password, for unknown users: checking it costs as much as checking a real hash."""


def make_credentials(password: str, random: Callable[[int], bytes] = os.urandom) -> Credentials:
    """Return what is stored for a new password.

    Raises `PreparationError`, a `ValueError` whose text says what a password must not hold (RFC 4013).
    """
    prepared = saslprep(password)
    keys = derive_keys(prepared, random(SALT_LENGTH), SCRAM_ITERATIONS)
    return Credentials(
        argon2=_HASHER.hash(prepared, salt=random(SALT_LENGTH)),
        scram_salt=keys.salt,
        scram_iterations=keys.iterations,
        scram_stored_key=keys.stored_key,
        scram_server_key=keys.server_key,
    )


def verify_password(argon2: str, prepared: str) -> bool:
    """Check a prepared password against a hash; the parameters of the hash determine the time it takes.

    Raises `ValueError` when the hash is damaged, or there is no memory to check it.
    """
    try:
        return _HASHER.verify(argon2, prepared)
    except VerifyMismatchError:
        return False
    except (InvalidHashError, VerificationError) as error:
        if str(error) == _NO_MEMORY:
            raise ValueError("there is no memory to check the password") from error
        raise ValueError("the stored password hash is damaged") from error
