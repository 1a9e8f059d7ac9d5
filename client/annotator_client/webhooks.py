"""Verifying what a webhook receives: Standard Webhooks, https://www.standardwebhooks.com/."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from annotator_client.errors import AnnotatorError, WebhookRefusedError

LONGEST_TIME = 12

TOLERANCE_S = 300
PREFIX = "whsec_"


def verify_webhook(
    secret: str, headers: Mapping[str, str], body: bytes, *, tolerance_s: float = TOLERANCE_S
) -> dict[str, Any]:
    """Return the message of a webhook, once it is sure that the server sent it.

    Args:
        secret: ``whsec_…``, shown when the webhook was created.
        headers: of the request, in any case.
        body: its exact bytes.
        tolerance_s: how old a message may be, so that nobody sends an overheard one again.

    Raises:
        WebhookRefusedError: it is not from the server, or was sent too long ago.
        AnnotatorError: the secret is none.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, sent_at = given["webhook-id"], given["webhook-timestamp"]
        signatures = given["webhook-signature"].split()
    except KeyError as error:
        raise WebhookRefusedError(f"The header {error.args[0]} is missing.") from error
    if not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) <= LONGEST_TIME):
        raise WebhookRefusedError("The header webhook-timestamp is no number of seconds.")
    if abs(time.time() - int(sent_at)) > tolerance_s:
        raise WebhookRefusedError(f"The message is not of the last {tolerance_s:g} seconds.")
    signed = f"{message_id}.{sent_at}.".encode() + body
    digest = hmac.digest(_key_of(secret), signed, hashlib.sha256)
    expected = f"v1,{base64.b64encode(digest).decode()}"
    # After a rotation there are two, one for each secret.
    if not any(hmac.compare_digest(expected.encode(), entry.encode()) for entry in signatures):
        raise WebhookRefusedError("No signature of the message is ours.")
    message: dict[str, Any] = json.loads(body)
    return message


def _key_of(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise AnnotatorError(f"The secret of a webhook looks like {PREFIX}K5oZ….") from error
