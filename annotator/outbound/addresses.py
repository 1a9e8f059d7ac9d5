"""Which web addresses this server connects to, and where exactly.

An address is read strictly, its host is looked up once, and every address the name stands for must
be public; the connection is then made to what was checked, so that a second look-up cannot lead
elsewhere.
"""

import ipaddress
import re
import socket
import threading
import time
import unicodedata
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.utils.http import is_same_domain

IpAddress = IPv4Address | IPv6Address

MAX_URL = 2000
MAX_HOST = 253
LOOK_UP_S = 5.0
OWN_LOOKUP_GOOD_FOR_S = 300
DEFAULT_PORTS = {"https": 443, "http": 80}

_FORM = re.compile(r"(?P<scheme>[^:/?#]*):(?://(?P<authority>[^/?#]*))?(?P<rest>.*)")
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>[0-9]+))?")
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
# Control characters, also hidden as %0d, and what some readers take for a slash.
_POISON = re.compile(r"[\x00-\x1f\x7f\\]|%(?:[01][0-9a-f]|7f)", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_KEPT_IN_PATH = "%/?:@!$&'()*+,;=-._~"

# Listed here instead of asking the library, whose opinion changes with the version of Python.
_NOT_PUBLIC_4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
        "168.63.129.16/32",  # answers inside Azure machines
    )
]  # fmt: skip
# Only this part of IPv6 is given out; in it, Teredo, 6to4 and the rest could hide a private IPv4.
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
]

_REASONS = {
    "malformed": "This is not a web address that can be used.",
    "credentials": "A web address must not hold a user name or a password.",
    # One sentence for unknown and private, so that nobody can ask us for names of an inner network.
    "not-public": "This host is not known, or not on the public internet.",
    "self": "This is an address of Annotator itself.",
}


class RefusedError(Exception):
    """An address is not used, or its answer not taken; ``code`` is stable, the text for people."""

    def __init__(self, code: str, reason: str = "") -> None:
        super().__init__(reason or _REASONS[code])
        self.code = code
        self.reason = reason or _REASONS[code]


@dataclass(frozen=True)
class Address:
    """A web address that was read strictly: host in ASCII (punycode), path percent-encoded."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Return host and, unless it is the usual one, port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Return it as it is stored and shown."""
        return f"{self.scheme}://{self.authority}{self.path}"


@dataclass(frozen=True)
class Target:
    """An address together with the only IP addresses that may be connected to for it."""

    address: Address
    ips: tuple[IpAddress, ...]


def read(url: str) -> Address:
    """Take a web address apart, without looking anything up.

    Raises:
        RefusedError: ``scheme``, ``credentials``, ``port``, ``malformed`` or ``not-public``.
    """
    if len(url) > MAX_URL or _POISON.search(url):
        raise RefusedError("malformed")
    form = _FORM.fullmatch(url)
    if form is None or form["scheme"] not in DEFAULT_PORTS:
        raise RefusedError("scheme", _scheme_reason())
    if "@" in (form["authority"] or ""):
        raise RefusedError("credentials")
    parts = _AUTHORITY.fullmatch(form["authority"] or "")
    if parts is None or not parts["host"]:
        raise RefusedError("malformed")
    port = int(parts["port"]) if parts["port"] else DEFAULT_PORTS[form["scheme"]]
    if port not in settings.OUTBOUND_PORTS:
        raise RefusedError("port", _port_reason())
    return Address(form["scheme"], _host(parts["host"]), port, _path(form["rest"]))


def check(url: str) -> Target:
    """Say where an address leads, if this server may connect there.

    Raises:
        RefusedError: as in :func:`read`, and ``self``; nothing was connected to.
    """
    address = read(url)
    ips = _look_up(address.host)
    if not ips:
        raise RefusedError("not-public")
    if _is_trusted(address.host, ips):
        return Target(address, ips)
    if not all(is_public(ip) or _is_in_trusted_network(ip) for ip in ips):
        raise RefusedError("not-public")
    if address.scheme == "http" and not settings.OUTBOUND_HTTP:
        raise RefusedError("scheme", _scheme_reason())
    if _is_own(address.host, ips):
        raise RefusedError("self")
    return Target(address, ips)


def is_public(ip: IpAddress) -> bool:
    """Return whether an IP address is one that anybody on the internet may reach."""
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_4)
    return ip in _PUBLIC_6 and not any(ip in network for network in _NOT_PUBLIC_6)


def _scheme_reason() -> str:
    kinds = "https:// or http://" if settings.OUTBOUND_HTTP else "https://"
    return f"The address must begin with {kinds}"


def _port_reason() -> str:
    ports = ", ".join(str(port) for port in settings.OUTBOUND_PORTS)
    return f"Only these ports are connected to: {ports}."


def _host(text: str) -> str:
    if text.startswith("["):
        return _host_v6(text[1:-1])
    # Circled and full-width digits are digits, also for those who would look the name up.
    name = unicodedata.normalize("NFKC", text).lower().removesuffix(".")
    if len(name) > MAX_HOST:
        raise RefusedError("malformed")
    try:
        name = name.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise RefusedError("malformed") from error
    if not _NAME.fullmatch(name):
        raise RefusedError("malformed")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return _host_v4(name)
    return name


def _host_v4(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError as error:
        # 127.1, 0x7f000001 and 0177.0.0.1: numbers that only some programs can read.
        raise RefusedError("not-public") from error


def _host_v6(text: str) -> str:
    if "%" in text:  # a zone, which only a private address has
        raise RefusedError("not-public")
    try:
        return str(IPv6Address(text))
    except ValueError as error:
        raise RefusedError("malformed") from error


def _path(rest: str) -> str:
    path = quote(rest.partition("#")[0], safe=_KEPT_IN_PATH)
    return path if path.startswith("/") else f"/{path}"


def _look_up(host: str) -> tuple[IpAddress, ...]:
    """Return every IP address of a host, none if it is not known."""
    try:
        return (ipaddress.ip_address(host),)
    except ValueError:
        pass  # a name
    try:
        found = _asked_of_name_servers(host)
        # A zone makes it link-local: it is dropped, and the address refused for what it is.
        texts = [str(entry[4][0]).partition("%")[0] for entry in found]
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(ipaddress.ip_address(text) for text in texts))


def _asked_of_name_servers(host: str) -> list[Any]:
    """Look a name up, within a time: the system waits long for a name server that says nothing.

    Raises:
        OSError: the name is not known, or nobody answered.
    """
    answer: Future[list[Any]] = Future()

    def ask() -> None:
        try:
            answer.set_result(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
        except Exception as error:
            answer.set_exception(error)

    # It cannot be called off, but nobody waits for it.
    threading.Thread(target=ask, daemon=True).start()
    return answer.result(LOOK_UP_S)


def _is_trusted(host: str, ips: Iterable[IpAddress]) -> bool:
    """Return whether the installation's settings name the host, or all networks it is in."""
    names = [entry for entry in settings.OUTBOUND_ALLOW if _network(entry) is None]
    return any(is_same_domain(host, name.lower()) for name in names) or all(
        _is_in_trusted_network(ip) for ip in ips
    )


def _is_in_trusted_network(ip: IpAddress) -> bool:
    networks = map(_network, settings.OUTBOUND_ALLOW)
    return any(ip in network for network in networks if network is not None)


@lru_cache(maxsize=256)
def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return None


def _is_own(host: str, ips: Iterable[IpAddress]) -> bool:
    names = [name for name in settings.ALLOWED_HOSTS if name != "*"]
    if any(is_same_domain(host, name.lower()) for name in names):
        return True
    period = int(time.monotonic() // OWN_LOOKUP_GOOD_FOR_S)
    own = {ip for name in names for ip in _own_ips(name.strip("[]"), period)}
    return any(ip in own or _leads_to_this_machine(ip) for ip in ips)


@lru_cache(maxsize=64)
def _own_ips(name: str, period: int) -> tuple[IpAddress, ...]:
    return () if name.startswith(".") else _look_up(name)


def _leads_to_this_machine(ip: IpAddress) -> bool:
    """Return whether the way to an address ends where it begins; nothing is sent."""
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(ip), 9))
            return ipaddress.ip_address(probe.getsockname()[0]) == ip
    except OSError:
        return False
