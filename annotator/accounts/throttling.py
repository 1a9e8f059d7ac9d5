"""Slowing down whoever guesses passwords."""

import hashlib

from django.core.cache import cache

FAILURES_ALLOWED = 10
WINDOW_S = 600


def _key(username: str, address: str) -> str:
    digest = hashlib.sha256(f"{username.casefold()}\n{address}".encode()).hexdigest()
    return f"login-failures:{digest}"


def is_blocked(*, username: str, address: str) -> bool:
    """Return whether this name was tried too often from this address."""
    return int(cache.get(_key(username, address), 0)) >= FAILURES_ALLOWED


def note_failure(*, username: str, address: str) -> None:
    """Count a failed attempt; ten minutes after the first the count starts again."""
    key = _key(username, address)
    if not cache.add(key, 1, WINDOW_S):
        try:
            cache.incr(key)
        except ValueError:
            # The window ended between the two calls.
            cache.add(key, 1, WINDOW_S)


def forget(*, username: str, address: str) -> None:
    """Start again after a successful login."""
    cache.delete(_key(username, address))
