"""Sending and downloading within limits, only ever to addresses that were checked.

Nothing is taken from the environment (no proxies), no cookies are kept, answers are never
unpacked, certificates are always verified, and time is limited as a whole and not per read.
"""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any
from urllib.parse import urljoin

from annotator.outbound.addresses import IpAddress, RefusedError, Target, check

MAX_REDIRECTS = 3
MAX_IPS_TRIED = 3
CHUNK_BYTES = 64 * 1024
USER_AGENT = "Annotator/1"
REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True)
class Limits:
    """How long an exchange may take in all, and between two pieces, and how much may come back."""

    total_s: float
    idle_s: float
    max_bytes: int


@dataclass(frozen=True)
class Answer:
    """What a server said; ``body`` is only its beginning if it was long."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def post(url: str, body: bytes, *, headers: Mapping[str, str], limits: Limits) -> Answer:
    """Send a body and return the answer, whatever its status; a redirect is not followed.

    Raises:
        RefusedError: the address is not taken, the server not reached or not trusted.
    """
    deadline = time.monotonic() + limits.total_s
    with _exchange(check(url), "POST", body, headers, deadline, limits.idle_s) as response:
        return Answer(
            response.status, dict(response.headers.items()), _read(response, limits.max_bytes)
        )


def download(url: str, target: IO[bytes], *, limits: Limits) -> int:
    """Write what is at an address into a file and return its size; redirects are checked too.

    Raises:
        RefusedError: the address or one it leads to is not taken, the server not reached or not
            trusted, or its answer is an error, too large, packed or cut short.
    """
    deadline = time.monotonic() + limits.total_s
    for _ in range(MAX_REDIRECTS + 1):
        with _exchange(check(url), "GET", None, {}, deadline, limits.idle_s) as response:
            if response.status not in REDIRECTS:
                return _save(response, target, limits.max_bytes)
            url = _joined(url, response.headers.get("Location", ""))
    raise RefusedError("redirects", f"The server redirected more than {MAX_REDIRECTS} times.")


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise RefusedError("malformed") from error


def _read(response: http.client.HTTPResponse, n_bytes: int) -> bytes:
    with _plain_errors():
        return response.read(n_bytes)


def _save(response: http.client.HTTPResponse, target: IO[bytes], max_bytes: int) -> int:
    if response.status != 200:
        raise RefusedError("http-status", f"The server answered {response.status}.")
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise RefusedError("packed", "The server sent a packed answer that was not asked for.")
    too_large = RefusedError("too-large", f"The file is larger than {max_bytes // 1024**2} MB.")
    if (response.length or 0) > max_bytes:
        raise too_large
    size = 0
    while chunk := _read(response, CHUNK_BYTES):
        size += len(chunk)
        if size > max_bytes:
            raise too_large
        target.write(chunk)
    if response.length:
        raise RefusedError("broken-answer", "The answer was cut short.")
    return size


@contextmanager
def _exchange(
    target: Target,
    method: str,
    body: bytes | None,
    headers: Mapping[str, str],
    deadline: float,
    idle_s: float,
) -> Iterator[http.client.HTTPResponse]:
    """Send a request and give the answer, whose body is not read yet.

    Raises:
        RefusedError: one code and one text for refused, closed and filtered, so that nobody can
            learn of a network by asking us to connect.
    """
    with _plain_errors():
        wire = _connect(target, deadline, idle_s)
    try:
        with _plain_errors():
            response = _asked(wire, target, method, body, headers)
        yield response
    finally:
        wire.hang_up()


def _asked(
    wire: "_Wire", target: Target, method: str, body: bytes | None, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(target.address.host, target.address.port)
    # The wire stands in for the socket: what this class needs of one, with a deadline.
    connection.sock = wire
    own = {
        "Host": target.address.authority,
        "User-Agent": USER_AGENT,
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    connection.request(method, target.address.path, body=body, headers={**headers, **own})
    return connection.getresponse()


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise RefusedError("tls", "The server's certificate cannot be trusted.") from error
    except TimeoutError as error:
        raise RefusedError("too-slow", "The server did not answer in time.") from error
    except OSError as error:
        raise RefusedError("unreachable", "The server could not be reached.") from error
    except http.client.HTTPException as error:
        raise RefusedError("broken-answer", "The answer was cut short or not HTTP.") from error


def _connect(target: Target, deadline: float, idle_s: float) -> "_Wire":
    """Connect to the first checked IP address that answers; the name is not looked up again."""
    failure: OSError = OSError("no address")
    for ip in target.ips[:MAX_IPS_TRIED]:
        try:
            plain = _dial(ip, target.address.port, min(idle_s, _left(deadline)))
        except OSError as error:
            failure = error
            continue
        return _Wire(_secured(plain, target, deadline), deadline, idle_s)
    # A filtered port must not look unlike a closed one.
    raise ConnectionError("no address answers") from failure


def _dial(ip: IpAddress, port: int, timeout: float) -> socket.socket:
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    plain = socket.socket(family, socket.SOCK_STREAM)
    try:
        plain.settimeout(timeout)
        plain.connect((str(ip), port))
    except BaseException:
        plain.close()
        raise
    return plain


def _secured(plain: socket.socket, target: Target, deadline: float) -> socket.socket:
    if target.address.scheme == "http":
        return plain
    try:
        plain.settimeout(_left(deadline))
        return tls_context().wrap_socket(plain, server_hostname=target.address.host)
    except BaseException:
        plain.close()
        raise


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """Return what certificates are verified with: the system's authorities."""
    return ssl.create_default_context()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is over")
    return left


class _Wire:
    """A connected socket of which no single read or write outlasts the deadline."""

    def __init__(self, sock: socket.socket, deadline: float, idle_s: float) -> None:
        self._socket = sock
        self._deadline = deadline
        self._idle_s = idle_s

    def sendall(self, data: Any) -> None:
        """Send everything or fail in time."""
        self._socket.settimeout(_left(self._deadline))
        self._socket.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return what the answer is read from."""
        return io.BufferedReader(_Reader(self._socket, self._deadline, self._idle_s))

    def close(self) -> None:
        """Do nothing: ``http.client`` closes before it has read the body; see ``hang_up``."""

    def hang_up(self) -> None:
        """End the connection."""
        self._socket.close()


class _Reader(io.RawIOBase):
    """Reads with what is left of the time; a server that sends a byte a second gains nothing."""

    def __init__(self, sock: socket.socket, deadline: float, idle_s: float) -> None:
        self._socket = sock
        self._deadline = deadline
        self._idle_s = idle_s

    def readable(self) -> bool:
        """Say so: it is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what comes next."""
        self._socket.settimeout(min(_left(self._deadline), self._idle_s))
        return self._socket.recv_into(buffer)
