import json
import os
import re
import subprocess
import sys
import threading
from datetime import timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from crash_kit import KILLED
from django.conf import settings
from django.db import connection, transaction
from django.urls import reverse
from factories import class_of, make_images, make_member, make_project, make_user, now
from receiver_kit import Reply
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from annotator.accounts.models import Role
from annotator.events import services as events
from annotator.events.models import Event
from annotator.labeling import services as labeling
from annotator.webhooks import delivering, kinds, outbox, signing
from annotator.webhooks.models import Delivery, DeliveryAttempt, Webhook
from workqueue import services as queue

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


@pytest.fixture
def rung(monkeypatch):
    """The webhooks a worker was rung for; nobody comes by itself."""
    rung = []
    monkeypatch.setattr(outbox, "send_message", lambda task, pk, name: rung.append(pk) or True)
    return rung


@pytest.fixture
def hook(client, project, receiver, rung):
    """A webhook that wants everything, and its secret."""
    return make_hook(client, project, receiver.url)


def make_hook(client, project, url, **more):
    answer = client.post(
        reverse("api:webhooks", args=[project.pk]), {"url": url, **more}, format="json"
    )
    assert answer.status_code == 201, answer.content
    webhook = Webhook.objects.get(pk=answer.json()["id"])
    webhook.secret = answer.json()["secret"]
    return webhook


def happen(project, kind="class.changed", **payload):
    return events.record(
        kind=kind, project_id=project.pk, actor_id=None, payload=payload or {"class": 1}
    )


def pass_time(how_long=HOUR):
    """Let everything that waits be due as if so much time had passed."""
    for delivery in Delivery.objects.filter(state="pending"):
        delivery.next_try_at -= how_long
        delivery.save()
    for webhook in Webhook.objects.all():
        for name in ("rests_until", "failing_since", "lease_until", "former_until"):
            if moment := getattr(webhook, name):
                setattr(webhook, name, moment - how_long)
        webhook.save()


def log_of(client, webhook):
    answer = client.get(reverse("api:deliveries", args=[webhook.pk]))
    assert answer.status_code == 200
    return answer.json()["results"]


# --- Signatures and messages ------------------------------------------------------------------


def test_an_independent_library_verifies_the_signature_of_a_label(client, project, receiver, hook):
    person = make_member(project)
    make_images(project, 1)
    (lease,) = queue.claim(user=person, project=project, n=1, now=now()).leases
    queue.submit(
        user=person, project=project, lease_token=str(lease.token),
        class_ids=[class_of(project).pk], key="k" * 16, now=now(),
    )  # fmt: skip

    assert delivering.deliver(hook.pk) == 1

    (got,) = receiver.got
    message = Verifier(hook.secret).verify(got.body, got.headers)
    event = Event.objects.get(kind="annotation.created")
    assert message["type"] == "annotation.created"
    assert message["data"] == {
        "project": project.pk,
        "event": event.pk,
        "actor": person.pk,
        "payload": event.payload,
        "n_events": 1,
    }
    assert got.headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Verifier(hook.secret).verify(got.body.replace(b"cat", b"dog") + b" ", got.headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(signing.secret_of("another")).verify(got.body, got.headers)


def test_the_secret_is_shown_once_and_stored_nowhere(client, project, hook):
    shown = client.get(reverse("api:webhook", args=[hook.pk])).content.decode()
    listed = client.get(reverse("api:webhooks", args=[project.pk])).content.decode()
    row = json.dumps(Webhook.objects.filter(pk=hook.pk).values().get(), default=str)
    history = json.dumps(list(Event.objects.values("payload")))

    assert hook.secret.startswith("whsec_")
    assert hook.secret.removeprefix("whsec_") not in shown + listed + row + history
    assert "secret" not in client.get(reverse("api:webhook", args=[hook.pk])).json()


def test_after_a_rotation_both_secrets_verify_for_a_day(client, project, receiver, hook):
    rotated = client.post(reverse("api:webhook_rotate", args=[hook.pk]), {}, format="json").json()
    happen(project)
    delivering.deliver(hook.pk)

    for secret in (hook.secret, rotated["secret"]):
        Verifier(secret).verify(receiver.got[-1].body, receiver.got[-1].headers)

    pass_time(25 * HOUR)
    happen(project)
    delivering.deliver(hook.pk)
    Verifier(rotated["secret"]).verify(receiver.got[-1].body, receiver.got[-1].headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(hook.secret).verify(receiver.got[-1].body, receiver.got[-1].headers)


def test_with_another_key_of_the_installation_nothing_is_sent_with_a_wrong_signature(
    client, project, receiver, hook, settings
):
    happen(project)
    settings.SECRET_KEY = "another " * 10

    delivering.deliver(hook.pk)

    assert receiver.got == []
    hook.refresh_from_db()
    assert not hook.is_active
    assert "new secret" in hook.disabled_reason


def test_only_the_events_that_were_asked_for_are_sent(client, project, receiver, rung):
    hook = make_hook(client, project, receiver.url, events=["round.*", "class.added"])

    for kind in ("class.changed", "class.added", "round.done", "roundabout.done", "webhook.tested"):
        happen(project, kind)
    happen(make_project(), "class.added")

    assert sorted(hook.deliveries.values_list("kind", flat=True)) == ["class.added", "round.done"]


def test_every_kind_of_event_the_code_records_can_be_asked_for():
    root = Path(settings.BASE_DIR)
    sources = [*(root / "annotator").rglob("*.py"), *(root / "queue").rglob("*.py")]
    recorded = {
        kind
        for source in sources
        if "webhooks" not in source.relative_to(root).parts
        for kind in re.findall(r'kind="([a-z_]+\.[a-z_]+)"', source.read_text())
    }

    assert "annotation.created" in recorded
    of_a_project = {kind for kind in recorded if not kind.startswith(("user.", "token."))}
    assert sorted(of_a_project - set(kinds.KINDS)) == []


# --- The outbox -------------------------------------------------------------------------------


def test_a_change_that_is_rolled_back_is_delivered_to_nobody(client, project, receiver, hook, rung):
    def change_and_fail():
        with transaction.atomic():
            happen(project)
            assert Delivery.objects.count() == 1
            assert rung == []
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        change_and_fail()

    assert not Delivery.objects.exists()
    assert rung == []
    assert delivering.deliver(hook.pk) == 0
    assert receiver.got == []


def test_an_event_without_a_transaction_around_it_still_comes_with_its_delivery(
    project, hook, monkeypatch
):
    def fail(**_):
        raise ZeroDivisionError

    monkeypatch.setattr(outbox, "queue", fail)

    with pytest.raises(ZeroDivisionError):
        happen(project)

    assert not Event.objects.filter(kind="class.changed").exists()


def test_a_lost_ring_is_made_good_by_the_sweeper(project, hook, rung):
    happen(project)
    rung.clear()

    assert delivering.sweep(now=now()) == 1
    assert rung == [hook.pk]


def test_a_storm_of_events_is_one_ring(project, hook, rung, receiver):
    for n in range(30):
        happen(project, **{"class": n})

    assert rung == [hook.pk]
    assert delivering.deliver(hook.pk) == 30
    assert len(receiver.got) == 30


def test_pictures_added_within_seconds_are_one_message(project, hook, receiver):
    last = [happen(project, "images.added", added=2, of=3) for _ in range(5)][-1]
    assert delivering.deliver(hook.pk) == 0

    pass_time(timedelta(seconds=6))
    delivering.deliver(hook.pk)
    happen(project, "images.added", added=1, of=1)

    (got,) = receiver.got
    data = json.loads(got.body)["data"]
    assert data["payload"] == {"added": 10, "of": 15}
    assert (data["n_events"], data["event"]) == (5, last.pk)
    assert Delivery.objects.filter(state="pending").count() == 1


def test_a_message_somebody_began_to_send_is_not_added_to(project, hook, receiver):
    receiver.reply = lambda _: Reply(500)
    happen(project, "images.added", added=1, of=1)
    pass_time(timedelta(seconds=6))
    delivering.deliver(hook.pk)

    happen(project, "images.added", added=1, of=1)
    receiver.reply = lambda _: Reply()
    pass_time()
    delivering.deliver(hook.pk)

    assert receiver.got[0].body == receiver.got[1].body
    assert receiver.got[0].headers["webhook-id"] == receiver.got[1].headers["webhook-id"]
    assert len(receiver.got) == 3


# --- Delivering -------------------------------------------------------------------------------


def deliver_and_die(webhook, receiver, place, when):
    """Deliver in a process that ends at a place as if it were killed."""
    database = connection.settings_dict
    url = (
        f"sqlite://{database['NAME']}"
        if connection.vendor == "sqlite"
        else "postgres://{USER}@{HOST}:{PORT}/{NAME}".format(**database)
    )
    root = Path(settings.BASE_DIR)
    return subprocess.run(
        [
            sys.executable, "-c",
            "import django, sys; django.setup(); import crash_kit;"
            "from annotator.webhooks import delivering;"
            f"crash_kit.die_at({place!r}, {when!r}, 1); delivering.deliver({webhook.pk})",
        ],
        env={
            **os.environ,
            "ANNOTATOR_DATA_DIR": str(settings.DATA_DIR),
            "ANNOTATOR_DATABASE_URL": url,
            "ANNOTATOR_SECRET_KEY": settings.SECRET_KEY,
            "ANNOTATOR_OUTBOUND_ALLOW": "127.0.0.1",
            "ANNOTATOR_OUTBOUND_PORTS": str(receiver.port),
            "DJANGO_SETTINGS_MODULE": "annotator.settings",
            "PYTHONPATH": f"{root}:{root / 'queue'}:{root / 'tests'}",
        },
    ).returncode  # fmt: skip


def test_a_worker_killed_between_sending_and_noting_it_sends_the_same_message_again(
    client, project, receiver, hook
):
    happen(project)

    assert deliver_and_die(hook, receiver, "annotator.webhooks.delivering:send", "after") == KILLED

    assert len(receiver.got) == 1
    assert delivering.deliver(hook.pk) == 0  # the dead worker's turn is not over yet
    assert delivering.sweep(now=now()) == 0
    assert delivering.sweep(now=now() + 2 * delivering.LEASE) == 1
    pass_time()
    assert delivering.deliver(hook.pk) == 1

    first, second = receiver.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    for got in receiver.got:
        Verifier(hook.secret).verify(got.body, got.headers)
    (delivery,) = log_of(client, hook)
    assert delivery["state"] == "delivered"
    assert [entry["code"] for entry in delivery["attempts"]] == ["unfinished", ""]


@pytest.mark.parametrize(
    ("place", "when"), [("_start_group", "after"), ("_finish", "after"), ("_take_turn", "after")]
)
def test_a_worker_killed_elsewhere_loses_nothing_either(project, receiver, hook, place, when):
    happen(project)

    assert deliver_and_die(hook, receiver, f"annotator.webhooks.delivering:{place}", when) == KILLED
    pass_time()
    delivering.deliver(hook.pk)

    assert len({got.headers["webhook-id"] for got in receiver.got}) == len(receiver.got) == 1
    assert Delivery.objects.get().state == "delivered"


def test_of_two_workers_one_delivers(project, hook, receiver):
    for n in range(20):
        happen(project, **{"class": n})
    start = threading.Barrier(2)
    done = []

    def work():
        start.wait()
        done.append(delivering.deliver(hook.pk))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(done) == 20
    assert len({got.headers["webhook-id"] for got in receiver.got}) == len(receiver.got) == 20


def test_a_worker_whose_turn_another_took_sends_nothing_more(project, hook, receiver):
    happen(project)
    turn = delivering._take_turn(hook.pk)
    pass_time()
    assert delivering._take_turn(hook.pk) == turn + 1

    assert delivering._send_group(hook.pk, turn) == 0
    assert receiver.got == []


def test_what_happens_to_one_image_arrives_in_order_and_holds_up_no_other(project, hook, receiver):
    receiver.reply = lambda got: Reply(500 if b'"step":1' in got.body else 200)
    for step in (1, 2, 3):
        happen(project, "annotation.edited", image=7, step=step)
    happen(project, "annotation.edited", image=8, step=9)

    delivering.deliver(hook.pk)
    assert sorted(steps(receiver)) == [1, 9]

    receiver.reply = lambda _: Reply()
    pass_time()
    delivering.deliver(hook.pk)
    assert steps(receiver)[2:] == [1, 2, 3]


def steps(receiver):
    return [json.loads(got.body)["data"]["payload"]["step"] for got in receiver.got]


def test_a_failed_delivery_is_tried_nine_times_more_over_three_days(
    client, project, receiver, hook, monkeypatch
):
    monkeypatch.setattr(delivering, "DISABLE_AFTER", timedelta(days=30))
    receiver.reply = lambda _: Reply(500, body=b"broken " * 300)
    happen(project)
    waits = []
    for _ in range(9):
        assert delivering.deliver(hook.pk) == 1
        assert delivering.deliver(hook.pk) == 0
        delivery = Delivery.objects.get()
        waits.append(delivery.next_try_at - delivery.attempts.last().at)
        pass_time(waits[-1] + HOUR)
    assert delivering.deliver(hook.pk) == 1

    for wait, least in zip(waits, delivering.WAITS, strict=True):
        assert least <= wait <= least * 1.21 + timedelta(seconds=5)
    (shown,) = log_of(client, hook)
    assert (shown["state"], shown["next_try_at"]) == ("given_up", None)
    assert [entry["status"] for entry in shown["attempts"]] == [500] * 10
    assert shown["attempts"][0]["answer"] == ("broken " * 300)[:1024]
    assert shown["attempts"][0]["milliseconds"] >= 0
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 1
    assert sum(delivering.WAITS, timedelta()) > timedelta(days=3)


def test_the_waits_differ_by_chance():
    assert len({delivering._wait(2) for _ in range(20)}) > 10


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_that_says_when_to_come_again_is_left_alone_until_then(
    project, receiver, hook, status
):
    receiver.reply = lambda _: Reply(status, {"Retry-After": "600"})
    happen(project)
    delivering.deliver(hook.pk)
    happen(project, **{"class": 2})

    assert Delivery.objects.earliest("pk").next_try_at > now() + timedelta(seconds=590)
    pass_time(timedelta(seconds=300))
    assert delivering.deliver(hook.pk) == 0
    pass_time(timedelta(seconds=600))
    receiver.reply = lambda _: Reply()
    assert delivering.deliver(hook.pk) == 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30),
        ("999999999", 86400),
        ("-1", 0),
        ("soon", 0),
        ("", 0),
        ("1e3", 0),
        ("Mon, 20 Nov 99999999999999999999 00:00:00 GMT", 0),
        ("Mon, 20 Nov 2030 00:00:00 +99999999999999999999", 0),
    ],
)
def test_only_a_sensible_retry_after_counts(text, seconds):
    assert delivering._retry_after(text, now()) == timedelta(seconds=seconds)


def test_a_retry_after_may_be_a_date():
    at = now().replace(microsecond=0)

    assert delivering._retry_after(format_datetime(at + HOUR), at) == HOUR
    assert delivering._retry_after(format_datetime(at - HOUR), at) == timedelta(0)


def test_a_receiver_that_is_gone_is_not_asked_again(client, project, receiver, hook):
    receiver.reply = lambda _: Reply(410)
    for n in range(20):
        happen(project, **{"class": n})

    delivering.deliver(hook.pk)
    happen(project)
    delivering.deliver(hook.pk)

    shown = client.get(reverse("api:webhook", args=[hook.pk])).json()
    assert not shown["is_active"]
    assert "410" in shown["disabled_reason"]
    assert len(receiver.got) <= delivering.AT_ONCE
    assert {entry["state"] for entry in log_of(client, hook)} == {"cancelled"}
    assert len(log_of(client, hook)) == 20
    assert Event.objects.filter(kind="webhook.disabled").count() == 1


def test_a_receiver_that_fails_for_days_is_switched_off_and_leads_are_told(
    client, project, receiver, hook
):
    receiver.reply = lambda _: Reply(500)
    happen(project)
    while Webhook.objects.get().is_active and Delivery.objects.filter(state="pending").exists():
        delivering.deliver(hook.pk)
        waiting = Delivery.objects.get().next_try_at
        pass_time(waiting - now() + timedelta(seconds=1) if waiting else HOUR)

    page = client.get(reverse("webhooks", args=[project.pk])).content.decode()
    assert "Nothing could be delivered for 3 days" in page
    assert len(receiver.got) == 10
    assert Event.objects.get(kind="webhook.disabled").payload["webhook"] == hook.pk


def test_after_ten_failures_in_a_row_one_message_finds_out_whether_the_receiver_is_back(
    project, receiver, hook
):
    receiver.reply = lambda _: Reply(500)
    for n in range(30):
        happen(project, **{"class": n})
    delivering.deliver(hook.pk)
    assert len(receiver.got) == 2 * delivering.AT_ONCE

    pass_time(timedelta(minutes=6))
    assert delivering.deliver(hook.pk) == 1
    pass_time(timedelta(minutes=6))
    receiver.reply = lambda _: Reply()

    assert delivering.deliver(hook.pk) == 30
    assert Webhook.objects.get().n_failures == 0


def test_a_webhook_with_too_long_a_backlog_is_switched_off(project, hook, monkeypatch):
    monkeypatch.setattr(delivering, "MOST_PENDING", 5)
    for n in range(5):
        happen(project, **{"class": n})
    delivering.keep_house(now=now())
    assert Webhook.objects.get().is_active

    happen(project)
    delivering.keep_house(now=now())

    assert not Webhook.objects.get().is_active


def test_old_deliveries_are_dropped_and_what_waits_is_kept(project, hook, receiver):
    happen(project)
    delivering.deliver(hook.pk)
    happen(project)

    delivering.keep_house(now=now() + delivering.KEEP + HOUR)

    assert [delivery.state for delivery in Delivery.objects.all()] == ["pending"]
    assert not DeliveryAttempt.objects.exists()


def test_a_worker_gives_way_after_some_seconds_and_rings_again(
    project, hook, receiver, rung, monkeypatch
):
    monkeypatch.setattr(delivering, "TURN_S", 0.0001)
    for n in range(20):
        happen(project, **{"class": n})
    receiver.reply = lambda _: Reply()
    rung.clear()

    n_sent = delivering.deliver(hook.pk)

    assert n_sent == delivering.AT_ONCE
    assert rung == [hook.pk]


def test_the_deletion_of_the_project_is_still_told(project, lead, receiver, hook):
    labeling.delete_project(project=project, actor=lead, now=now())

    delivering.deliver(hook.pk)

    assert json.loads(receiver.got[-1].body)["type"] == "project.deleted"


# --- What people do with them -----------------------------------------------------------------


def test_a_test_message_is_sent_at_once(client, project, receiver, hook, rung):
    answer = client.post(reverse("api:webhook_test", args=[hook.pk]), {}, format="json")
    assert answer.status_code == 202
    assert hook.pk in rung

    delivering.deliver(hook.pk)

    (got,) = receiver.got
    assert Verifier(hook.secret).verify(got.body, got.headers)["type"] == "webhook.test"


def test_a_delivery_can_be_sent_again_under_the_same_id(client, project, receiver, hook):
    happen(project)
    delivering.deliver(hook.pk)
    (delivery,) = log_of(client, hook)

    answer = client.post(reverse("api:redeliver", args=[delivery["id"]]), {}, format="json")
    delivering.deliver(hook.pk)

    assert answer.status_code == 202
    first, second = receiver.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == delivery["message_id"]
    (delivery,) = log_of(client, hook)
    assert [entry["number"] for entry in delivery["attempts"]] == [1, 2]


def test_a_webhook_that_is_off_gets_nothing_and_what_waited_is_cancelled(
    client, project, receiver, hook
):
    happen(project)
    where = reverse("api:webhook", args=[hook.pk])

    off = client.patch(where, {"is_active": False}, format="json")
    happen(project, **{"class": 2})
    delivering.deliver(hook.pk)
    refused = client.post(reverse("api:webhook_test", args=[hook.pk]), {}, format="json")
    (cancelled,) = log_of(client, hook)
    again = client.post(reverse("api:redeliver", args=[cancelled["id"]]), {}, format="json")

    assert off.json()["is_active"] is False
    assert cancelled["state"] == "cancelled"
    assert (refused.status_code, again.status_code) == (409, 409)
    assert refused.json()["code"] == "switched-off"
    assert receiver.got == []

    client.patch(where, {"is_active": True}, format="json")
    happen(project, **{"class": 3})
    assert delivering.deliver(hook.pk) == 1


def test_a_webhook_can_be_changed_listed_and_deleted(client, project, hook, receiver):
    where = reverse("api:webhook", args=[hook.pk])
    changes = {"events": ["round.done", "annotation.*"], "description": "our bot"}

    changed = client.patch(where, changes, format="json").json()
    listed = client.get(reverse("api:webhooks", args=[project.pk])).json()["results"]

    # In the order of the list of kinds, each once.
    assert changed["events"] == ["annotation.*", "round.done"]
    assert [entry["id"] for entry in listed] == [hook.pk]
    assert client.patch(where, {"url": "http://10.0.0.1/"}, format="json").status_code == 422
    happen(project, "round.done", round=1)
    assert client.delete(where).status_code == 204
    assert client.get(where).status_code == 404
    assert not Delivery.objects.exists()
    assert [event.kind for event in Event.objects.filter(kind__startswith="webhook.")] == [
        "webhook.created", "webhook.changed", "webhook.deleted",
    ]  # fmt: skip


def test_the_path_of_an_address_which_may_be_a_secret_is_not_in_the_history(client, project, hook):
    assert "/hook" not in json.dumps(list(Event.objects.values("payload")))


@pytest.mark.parametrize(
    "extra",
    [
        {"secret": "whsec_" + "a" * 44},
        {"headers": {"Host": "evil"}},
        {"headers": {"X-A": "a\r\nAuthorization: b"}},
        {"events": []},
        {"events": ["nonsense"]},
        {"events": "round.done"},
        {"is_active": False},
        {"description": "x" * 201},
    ],
)
def test_a_body_with_anything_else_in_it_is_refused(client, project, receiver, extra):
    answer = client.post(
        reverse("api:webhooks", args=[project.pk]), {"url": receiver.url, **extra}, format="json"
    )

    assert answer.status_code == 400
    assert not Webhook.objects.exists()


def test_a_project_has_a_limited_number_of_webhooks(client, project, receiver, hook):
    for _ in range(19):
        make_hook(client, project, receiver.url)

    answer = client.post(
        reverse("api:webhooks", args=[project.pk]), {"url": receiver.url}, format="json"
    )

    assert answer.status_code == 409
    assert answer.json()["code"] == "too-many-webhooks"
    assert Webhook.objects.count() == 20


ROUTES = [
    ("get", "webhook"),
    ("patch", "webhook"),
    ("delete", "webhook"),
    ("post", "webhook_rotate"),
    ("post", "webhook_test"),
    ("get", "deliveries"),
    ("post", "redeliver"),
]


@pytest.mark.parametrize(("method", "name"), ROUTES)
def test_each_route_of_a_webhook_is_for_leads_of_its_project(
    client, client_of, project, hook, method, name
):
    happen(project)
    pk = Delivery.objects.get().pk if name == "redeliver" else hook.pk
    where = reverse(f"api:{name}", args=[pk])
    before = list(Webhook.objects.values()), list(Delivery.objects.values())
    other_lead = make_user()
    make_project(lead=other_lead)

    for stranger in (make_user(), other_lead):
        assert getattr(client_of(stranger), method)(where, {}, format="json").status_code == 404
    for role in (Role.ANNOTATOR, Role.REVIEWER):
        person = client_of(make_member(project, role))
        assert getattr(person, method)(where, {}, format="json").status_code == 403
    assert (list(Webhook.objects.values()), list(Delivery.objects.values())) == before
    assert getattr(client, method)(where, {}, format="json").status_code in {200, 202, 204}


def test_the_page_shows_webhooks_and_their_deliveries_to_leads_only(
    client, client_of, project, receiver, hook
):
    receiver.reply = lambda _: Reply(500, body=b"<script>alert(1)</script>")
    happen(project)
    delivering.deliver(hook.pk)
    where = reverse("webhooks", args=[project.pk])

    page = client.get(where).content.decode()

    assert receiver.url in page
    assert "The receiver answered 500" in page
    assert "<script>alert" not in page
    reviewer = client_of(make_member(project, Role.REVIEWER))
    assert reviewer.get(where).status_code == 403
    assert client_of(make_user()).get(where).status_code == 404
