import base64
import json
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from annotator_client import AnnotatorError, WebhookRefusedError, verify_webhook

SECRET = "whsec_" + base64.b64encode(b"a secret of 24 bytes ...").decode()
BODY = json.dumps({"type": "round.done", "data": {"event": 7}}).encode()


def _headers(secret=SECRET, body=BODY, *, at=None):
    at = int(at or time.time())
    sent = datetime.fromtimestamp(at, UTC)
    return {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(at),
        "Webhook-Signature": Webhook(secret).sign("msg_1", sent, body.decode()),
    }


def test_what_an_independent_library_signed_is_verified():
    assert verify_webhook(SECRET, _headers(), BODY) == json.loads(BODY)


def test_one_of_two_signatures_is_enough_after_a_rotation():
    other = "whsec_" + base64.b64encode(b"the former secret ......").decode()
    headers = _headers()
    headers["Webhook-Signature"] = (
        f"{_headers(other)['Webhook-Signature']} {headers['Webhook-Signature']}"
    )

    assert verify_webhook(SECRET, headers, BODY)["type"] == "round.done"
    assert verify_webhook(other, headers, BODY)["type"] == "round.done"


@pytest.mark.parametrize(
    "change",
    [
        lambda headers: headers.update({"Webhook-Id": "msg_2"}),
        lambda headers: headers.update({"Webhook-Timestamp": str(int(time.time()) + 1)}),
        lambda headers: headers.update({"Webhook-Timestamp": "now"}),
        lambda headers: headers.update({"Webhook-Signature": "v1,AAAA"}),
        lambda headers: headers.update({"Webhook-Signature": "é"}),
        lambda headers: headers.pop("Webhook-Signature"),
        lambda headers: headers.pop("Webhook-Id"),
    ],
)
def test_a_message_that_was_touched_is_refused(change):
    headers = _headers()
    change(headers)

    with pytest.raises(WebhookRefusedError):
        verify_webhook(SECRET, headers, BODY)


def test_another_body_is_refused():
    with pytest.raises(WebhookRefusedError):
        verify_webhook(SECRET, _headers(), BODY + b" ")


@pytest.mark.parametrize("shift", [-400, 400])
def test_a_message_of_another_time_is_refused(shift):
    headers = _headers(at=time.time() + shift)

    with pytest.raises(WebhookRefusedError, match="300 seconds"):
        verify_webhook(SECRET, headers, BODY)


def test_a_secret_that_is_none_is_not_taken_for_a_forged_message():
    with pytest.raises(AnnotatorError, match="looks like whsec_"):
        verify_webhook("whsec_what?", _headers(), BODY)


@pytest.mark.parametrize("digits", [13, 400, 5000])
def test_a_time_beyond_all_clocks_is_refused_like_any_other(digits):
    headers = _headers() | {"Webhook-Timestamp": "9" * digits}

    with pytest.raises(WebhookRefusedError):
        verify_webhook(SECRET, headers, BODY)
