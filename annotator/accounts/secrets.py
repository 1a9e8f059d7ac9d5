"""The text of an API token: random, recognisable, and checked before the database is asked.

``annp_`` (a person's) or ``anns_`` (a service's), 43 random letters and digits (256 bits), and 6
more that are the CRC-32 of what stands before them. A scanner for leaked secrets finds one by
``ann[ps]_[0-9A-Za-z]{49}`` and tells a real one from a chance match without asking anybody.
"""

import hashlib
import re
import secrets
import string
import zlib

PERSONAL = "annp_"
SERVICE = "anns_"
PREFIX_SHOWN = 12
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_N_RANDOM = 43
_N_CHECK = 6
_OLD = re.compile("ann_[0-9A-Za-z_-]{43}", re.ASCII)


def new_token(kind: str) -> str:
    """Return a fresh secret of the kind ``PERSONAL`` or ``SERVICE``."""
    body = kind + "".join(secrets.choice(_DIGITS) for _ in range(_N_RANDOM))
    return body + _checksum(body)


def is_well_formed(secret: str) -> bool:
    """Return whether this may be one of our tokens; the first ones had no checksum."""
    if not secret.startswith((PERSONAL, SERVICE)):
        return _OLD.fullmatch(secret) is not None
    body, check = secret[:-_N_CHECK], secret[-_N_CHECK:]
    return len(body) == len(PERSONAL) + _N_RANDOM and check == _checksum(body)


def hash_secret(secret: str) -> str:
    """Return the hash under which a random secret is stored (it needs no salt: 256 bits)."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _checksum(text: str) -> str:
    number = zlib.crc32(text.encode())
    digits = ""
    for _ in range(_N_CHECK):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
