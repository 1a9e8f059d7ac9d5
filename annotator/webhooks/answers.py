"""The shapes of what the API answers about webhooks."""

from annotator.api import contract as c
from annotator.api.contract import Answer
from annotator.webhooks.models import Delivery


class WebhookOut(Answer):
    """A webhook, without its secret."""

    id = c.whole("the id")
    project = c.whole("the project whose events it is told of")
    url = c.text("where messages go")
    description = c.text("what it is for")
    events = c.many(c.text("a kind, all of one thing such as round.*, or *"), "what it wants")
    is_active = c.yes_no("whether messages are sent")
    disabled_reason = c.text("why it was switched off by itself; empty otherwise")
    n_failures = c.whole("attempts that failed since the last success")
    failing_since = c.moment("the first of them", null=True)
    former_secret_until = c.moment("until then messages are signed with two secrets", null=True)
    created_at = c.moment("when it was made")


class NewWebhookOut(WebhookOut):
    """A webhook with a new secret."""

    secret = c.text(
        "to verify messages with, shown this once; null in a repeated answer", null=True
    )


class AttemptOut(Answer):
    """One try at a delivery."""

    number = c.whole("from 1")
    at = c.moment("when")
    status = c.whole("the status that was answered; null: no answer", null=True)
    milliseconds = c.whole("how long it took", null=True)
    code = c.text("why it failed, for programs; empty otherwise")
    reason = c.text("the same for people")
    answer = c.text("the beginning of what was answered")


class DeliveryOut(Answer):
    """One message with all attempts at it."""

    id = c.whole("the id")
    webhook = c.whole("the webhook")
    message_id = c.text("the webhook-id header, the same in every attempt")
    kind = c.text("the kind of event")
    event = c.whole("the event in the feed; null for a test", null=True)
    state = c.one_of(Delivery.State, "what became of it")
    next_try_at = c.moment("when it is tried next", null=True)
    created_at = c.moment("when it was queued")
    attempts = AttemptOut(many=True, help_text="the first one first")
