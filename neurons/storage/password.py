"""The password of a server that other machines can reach, kept as an Argon2id hash in the user's home."""

from __future__ import annotations

from pathlib import Path

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from neurons.core.errors import InvalidInput
from neurons.core.home import home
from neurons.storage.files import write_atomic

SHORTEST, LONGEST = 8, 1000
"""Characters of a password."""


def set_password(text: str) -> None:
    """Keep a new password. Raises `InvalidInput` where it is too short or too long, `StoreError` where it cannot be written."""
    if not SHORTEST <= len(text) <= LONGEST:
        raise InvalidInput(f"the password has {len(text)} characters; use {SHORTEST} to {LONGEST}", field="password")
    write_atomic(_path(), PasswordHasher().hash(text).encode("ascii"))


def is_set() -> bool:
    """Whether a password was set."""
    return _path().is_file()


def is_password(text: str) -> bool:
    """Whether `text` is the password. Takes some 50 ms by design (Argon2id, RFC 9106)."""
    try:
        return PasswordHasher().verify(_path().read_text(encoding="ascii"), text[: LONGEST + 1])
    except (VerificationError, InvalidHashError, OSError, UnicodeDecodeError):
        return False


def _path() -> Path:
    return home() / "password"
