"""Every change of a webhook that a person asks for."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from django.db import transaction

from annotator import outbound
from annotator.accounts.models import User
from annotator.clock import database_now
from annotator.events import services as events
from annotator.labeling.models import Project
from annotator.webhooks import kinds, outbox, signing
from annotator.webhooks.delivering import cancel_pending, drop
from annotator.webhooks.models import Delivery, Webhook

MOST_PER_PROJECT = 20
FORMER_SECRET_GOOD_FOR = timedelta(hours=24)


class TooManyWebhooksError(Exception):
    """The project has as many webhooks as it may have."""


class SwitchedOffError(Exception):
    """Nothing is sent to a webhook that is switched off."""


@dataclass(frozen=True)
class NewWebhook:
    """A webhook with the secret that is shown only now."""

    webhook: Webhook
    secret: str


def create_webhook(
    *, project: Project, actor: User, url: str, events_wanted: list[str], description: str = ""
) -> NewWebhook:
    """Tell an address of the project's events from now on.

    Raises:
        RefusedError: this server does not connect to the address.
        TooManyWebhooksError: the project has enough of them.
    """
    shown_url = outbound.check(url).address.url
    nonce = signing.new_nonce()
    secret = signing.secret_of(nonce)
    with transaction.atomic():
        # The lock counts for two people who create one at the same instant.
        Project.objects.select_for_update().get(pk=project.pk)
        if Webhook.objects.filter(project=project).count() >= MOST_PER_PROJECT:
            raise TooManyWebhooksError(f"A project can have {MOST_PER_PROJECT} webhooks at most.")
        webhook = Webhook.objects.create(
            project=project,
            url=shown_url,
            events=events_wanted,
            description=description,
            nonce=nonce,
            secret_hash=signing.hash_of(secret),
            created_by=actor,
        )
        _note("created", webhook, actor, events=events_wanted)
    return NewWebhook(webhook, secret)


def update_webhook(*, webhook: Webhook, actor: User, changes: dict[str, Any]) -> Webhook:
    """Change the address, the events or the description, or switch it on or off.

    Raises:
        RefusedError: this server does not connect to the new address.
    """
    if "url" in changes:
        changes["url"] = outbound.check(changes["url"]).address.url
    with transaction.atomic():
        webhook = Webhook.objects.select_for_update(no_key=True).get(pk=webhook.pk)
        changed = {name for name, value in changes.items() if getattr(webhook, name) != value}
        for name, value in changes.items():
            setattr(webhook, name, value)
        if "is_active" in changed:
            webhook.disabled_reason = ""
        if changed & {"is_active", "url"}:
            _forget_failures(webhook)
        webhook.save()
        if not webhook.is_active:
            transaction.on_commit(partial(cancel_pending, webhook.pk), robust=True)
        if changed:
            _note("changed", webhook, actor, fields=sorted(changed), is_active=webhook.is_active)
    return webhook


@transaction.atomic
def rotate_secret(*, webhook: Webhook, actor: User) -> NewWebhook:
    """Make a new secret; for a day messages are signed with the former one as well."""
    webhook = Webhook.objects.select_for_update(no_key=True).get(pk=webhook.pk)
    webhook.former_nonce = webhook.nonce
    webhook.former_until = database_now() + FORMER_SECRET_GOOD_FOR
    webhook.nonce = signing.new_nonce()
    secret = signing.secret_of(webhook.nonce)
    webhook.secret_hash = signing.hash_of(secret)
    webhook.save(update_fields=["former_nonce", "former_until", "nonce", "secret_hash"])
    _note("secret_rotated", webhook, actor)
    return NewWebhook(webhook, secret)


def delete_webhook(*, webhook: Webhook, actor: User) -> None:
    """Forget a webhook and its deliveries; that it was there stays in the history."""
    Webhook.objects.filter(pk=webhook.pk).update(is_active=False)
    drop(webhook.deliveries.order_by("pk"))
    with transaction.atomic():
        _note("deleted", webhook, actor)
        webhook.delete()


@transaction.atomic
def send_test(*, webhook: Webhook, actor: User) -> Delivery:
    """Queue a message of kind ``webhook.test``.

    Raises:
        SwitchedOffError: the webhook is switched off.
    """
    webhook = _ready(webhook)
    _note("tested", webhook, actor)
    data = {"project": webhook.project_id, "webhook": webhook.pk, "actor": actor.pk}
    delivery = outbox.queue(webhook=webhook, kind=kinds.TEST, about="test", data=data)
    transaction.on_commit(partial(outbox.ring, webhook.pk), robust=True)
    return delivery


@transaction.atomic
def redeliver(*, delivery: Delivery, actor: User, now: datetime) -> Delivery:
    """Send a message again at once, under the same ``webhook-id``.

    Raises:
        SwitchedOffError: the webhook is switched off.
    """
    webhook = _ready(delivery.webhook)
    Delivery.objects.filter(pk=delivery.pk).update(
        state=Delivery.State.PENDING, n_tries=0, next_try_at=now
    )
    _note("redelivered", webhook, actor, message=delivery.message_id)
    transaction.on_commit(partial(outbox.ring, webhook.pk), robust=True)
    delivery.refresh_from_db()
    return delivery


def _ready(webhook: Webhook) -> Webhook:
    """Return the webhook, locked; what a person asks for does not wait for the end of a rest."""
    webhook = Webhook.objects.select_for_update(no_key=True).get(pk=webhook.pk)
    if not webhook.is_active:
        raise SwitchedOffError("This webhook is switched off. Switch it on first.")
    Webhook.objects.filter(pk=webhook.pk).update(rests_until=None)
    return webhook


def _forget_failures(webhook: Webhook) -> None:
    webhook.n_failures, webhook.failing_since, webhook.rests_until = 0, None, None


def _note(what: str, webhook: Webhook, actor: User, **more: Any) -> None:
    """Write the event; only the host of the address, whose path may be a secret of its own."""
    host = urlsplit(webhook.url).netloc
    events.record(
        kind=f"webhook.{what}",
        project_id=webhook.project_id,
        actor_id=actor.pk,
        payload={"webhook": webhook.pk, "host": host, **more},
    )
