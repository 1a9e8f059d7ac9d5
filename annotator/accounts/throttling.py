"""Limits: how fast a program may ask, and how often a password may be guessed."""

import hashlib
import ipaddress
import logging
import time
from typing import Any

from django.conf import settings
from django.db import DatabaseError
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from annotator.accounts import services
from annotator.accounts.models import ApiToken
from annotator.accounts.rates import WINDOW_S, Rates
from annotator.api.problems import Problem

logger = logging.getLogger(__name__)

LOGIN_WINDOW_S = 600
rates = Rates()


class RequestRate(BaseThrottle):
    """Limits the requests of a user: those with tokens, and, far above any person, the browser's.

    A person and all their tokens share one limit: more tokens are not more requests.
    """

    def allow_request(self, request: Request, view: Any) -> bool:
        """Return True, and leave what is left for the headers of the answer.

        Raises:
            Problem: the limit is reached.
        """
        name = "api" if isinstance(request.auth, ApiToken) else "browser"
        limit = settings.REQUEST_RATES[name]
        if limit <= 0:
            return True
        now = time.time()
        used = _count(f"{name}:{request.user.pk}", limit, now)
        reset = WINDOW_S - int(now % WINDOW_S)
        left = max(limit - used, 0)
        # The names of draft-ietf-httpapi-ratelimit-headers; the middleware sends them.
        request.META["annotator.rate_limit"] = {
            "RateLimit-Policy": f'"{name}";q={limit};w={WINDOW_S}',
            "RateLimit": f'"{name}";r={left};t={reset}',
        }
        if used <= limit:
            return True
        problem = Problem(
            429,
            "rate-limited",
            f"More than {limit} requests in {WINDOW_S} seconds. Go on in {reset} s.",
        )
        problem.wait = reset
        raise problem


def _count(key: str, limit: int, now: float) -> int:
    tally, due = rates.hit(key, limit, now)
    if due:
        try:
            total = services.add_to_count(key=key, window=tally.window, n=due)
        except DatabaseError as error:
            # Nobody's label is refused because a counter could not be written.
            logger.warning("a rate could not be counted: %s", error)
        else:
            rates.shared(tally, total)
    return tally.used


def address_of(request: HttpRequest) -> str:
    """Return where a request comes from: what the outermost of our own proxies has seen.

    Without proxies of our own, whatever ``X-Forwarded-For`` says is anybody's invention. Whoever
    has one IPv6 address has 2**64 of them, so these are one.
    """
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    seen: list[str] = [
        *(entry.strip() for entry in forwarded),
        str(request.META.get("REMOTE_ADDR", "")),
    ]
    text = _without_port(str(seen[max(len(seen) - 1 - settings.PROXIES, 0)]))
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        # How a server that listens on IPv6 sees everybody who comes by IPv4.
        return str(address.ipv4_mapped)
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _without_port(text: str) -> str:
    # Some proxies write it, and it is another one for each connection.
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


class LoginAttempt:
    """One try of a password, counted before the password is looked at.

    Counted are the tries of a name from an address, and all tries from the address that this lets
    through: the first stops guessing, the second trying one password on many names. Nobody else is
    locked out by either.
    """

    def __init__(self, *, username: str, address: str) -> None:
        now = time.time()
        self._window = int(now // LOGIN_WINDOW_S) * LOGIN_WINDOW_S
        self._pair = _login_key(f"{username.casefold()}\n{address}")
        self._address = _login_key(address)
        self.wait_s = self._window + LOGIN_WINDOW_S - int(now)

    def is_allowed(self) -> bool:
        """Count the try and return whether it may be made."""
        counts = [
            (self._pair, settings.LOGIN_FAILURES),
            (self._address, settings.LOGIN_FAILURES_PER_ADDRESS),
        ]
        return all(self._add(key, +1) <= limit for key, limit in counts)

    def succeeded(self) -> None:
        """Forget the tries of this name; one that was right is none of the address."""
        services.forget_count(key=self._pair, window=self._window)
        self._add(self._address, -1)

    def _add(self, key: str, n: int) -> int:
        return services.add_to_count(key=key, window=self._window, n=n)


def _login_key(text: str) -> str:
    return f"login:{hashlib.sha256(text.encode()).hexdigest()}"
