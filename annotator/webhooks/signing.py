"""Secrets and signatures of webhooks (Standard Webhooks 1.0).

A secret is derived from the installation's key and a random nonce: it is stored nowhere, and who
gets hold of the database alone can sign nothing.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

from django.conf import settings

PREFIX = "whsec_"


class SecretLostError(Exception):
    """The installation's key is another one than when the secret was made."""


def new_nonce() -> str:
    """Return what a new secret is derived from."""
    return secrets.token_hex(32)


def secret_of(nonce: str) -> str:
    """Return the secret that belongs to a nonce, as it is shown."""
    key = hmac.digest(settings.SECRET_KEY.encode(), f"annotator.webhook:{nonce}".encode(), "sha256")
    return PREFIX + base64.b64encode(key).decode()


def hash_of(secret: str) -> str:
    """Return what tells later whether the same secret is still derived."""
    return hashlib.sha256(secret.encode()).hexdigest()


def checked_secret(nonce: str, secret_hash: str) -> str:
    """Return the secret that belongs to a nonce.

    Raises:
        SecretLostError: it is another one than was shown.
    """
    secret = secret_of(nonce)
    if hash_of(secret) != secret_hash:
        raise SecretLostError
    return secret


def headers(message_id: str, timestamp: int, body: bytes, use: Sequence[str]) -> dict[str, str]:
    """Return the three headers of a message, with one signature for each secret."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = [
        base64.b64encode(
            hmac.digest(base64.b64decode(secret.removeprefix(PREFIX)), signed, "sha256")
        ).decode()
        for secret in use
    ]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
