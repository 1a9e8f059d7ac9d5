"""Every kind of address that must not be connected to, tried against both outbound features."""

import io
import ipaddress
import socket
import ssl
import threading
import time
import zlib

import pytest
from django.db import connection
from django.urls import reverse
from PIL import Image as Picture
from receiver_kit import (
    Authority,
    Receiver,
    Reply,
    cut_short,
    endless_body,
    endless_headers,
    not_http,
    one_byte_at_a_time,
)

from annotator.ingest import fetching
from annotator.ingest.models import Import
from annotator.jobs import services as jobs
from annotator.labeling.models import Image
from annotator.outbound import addresses
from annotator.outbound import client as outbound_client
from annotator.webhooks import delivering
from annotator.webhooks.models import DeliveryAttempt, Webhook

pytestmark = pytest.mark.django_db(transaction=True)

PUBLIC = "93.184.216.34"


def by_webhook(client, project, url):
    """Return the code with which the address is refused as a webhook's, None if it is taken."""
    answer = client.post(reverse("api:webhooks", args=[project.pk]), {"url": url}, format="json")
    if answer.status_code == 201:
        return None
    assert answer.status_code == 422, answer.content
    assert not Webhook.objects.exists()
    return answer.json()["code"]


def by_image(client, project, url):
    """Return the code with which an image at the address is refused, None if it is added."""
    entry = fetch(client, project, url)
    assert entry.result == ("refused" if entry.code else "added")
    return entry.code or None


def fetch(client, project, *urls):
    answer = client.post(
        reverse("api:images", args=[project.pk]), {"urls": list(urls)}, format="json"
    )
    assert answer.status_code == 202, answer.content
    import_run = Import.objects.get(pk=answer.json()["id"])
    assert jobs.run(import_run.job_id) == "done"
    return import_run.entries.first() if len(urls) == 1 else import_run


def deliver(client, project, url):
    """Make a webhook, send it a test and return the attempt."""
    webhook = client.post(
        reverse("api:webhooks", args=[project.pk]), {"url": url}, format="json"
    ).json()
    client.post(reverse("api:webhook_test", args=[webhook["id"]]), {}, format="json")
    delivering.deliver(webhook["id"])
    return DeliveryAttempt.objects.get(delivery__webhook=webhook["id"])


def picture():
    buffer = io.BytesIO()
    Picture.new("RGB", (64, 48), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(params=[by_webhook, by_image], ids=["webhook", "image"])
def refused(request, client, project, names):
    return lambda url: request.param(client, project, url)


@pytest.fixture
def nowhere(monkeypatch):
    """Fail if anything is connected to; what was tried is remembered."""
    dialled = []

    def dial(ip, port, timeout):
        dialled.append(str(ip))
        raise ConnectionRefusedError

    monkeypatch.setattr(outbound_client, "_dial", dial)
    return dialled


SCHEMES = [
    "file:///etc/passwd", "ftp://example.org/x", "gopher://example.org/x", "data:image/png,x",
    "dict://example.org/x", "javascript:alert(1)", "unix:///run/x", "example.org/x",
    "//example.org/x", "example.org:443/x", "FILE:///etc/passwd", "HTTPS://example.org/x",
    "http://example.org/x",
]  # fmt: skip
LOOPBACKS = [
    "127.0.0.1", "127.1", "0", "0.0.0.0", "2130706433", "0x7f000001", "0177.0.0.1",
    "①②⑦.⓪.⓪.①", "127。0。0。1", "localhost", "localhost.", "127.0.0.1.", "unknown.example",
]  # fmt: skip
HIDDEN = [
    "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[fe80::1%25eth0]", "[fe80::1]", "[fd00:ec2::254]", "[ff02::1]", "[2001:db8::1]",
]  # fmt: skip
PRIVATE = [
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1",
    "169.254.169.254", "192.0.0.192", "198.18.0.1", "198.19.255.255", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "168.63.129.16",
]  # fmt: skip
MALFORMED = [
    ("https://user:pass@example.org/", "credentials"),
    ("https://good@127.0.0.1/", "credentials"),
    ("https://good\\@127.0.0.1/", "malformed"),
    ("https://exa%00mple.org/", "malformed"),
    ("https://example.org/%00", "malformed"),
    ("https://exa\tmple.org/", "malformed"),
    ("https://exa\nmple.org/", "malformed"),
    ("https://exa mple.org/", "malformed"),
    ("https://example.org/a\r\nX-Evil: 1", "malformed"),
    ("https://example.org/a%0d%0aX-Evil:%201", "malformed"),
    ("https://", "malformed"),
    ("https:///x", "malformed"),
    ("https:example.org", "malformed"),
    ("https://[::1/", "malformed"),
    ("https://exa℀mple.org/", "malformed"),
    ("https://-.example/", "malformed"),
    ("https://" + "a" * 64 + ".example/", "malformed"),
    ("https://example.org/" + "a" * 1990, "malformed"),
]
PORTS = ["22", "25", "6379", "5432", "0", "99999", "444444"]


@pytest.mark.parametrize("url", SCHEMES)
def test_only_https_is_taken(refused, nowhere, names, url):
    names.set("example.org", [PUBLIC])

    assert refused(url) == "scheme"
    assert nowhere == []


@pytest.mark.parametrize("host", [*LOOPBACKS, *HIDDEN, *PRIVATE])
def test_an_address_that_is_not_public_is_refused_however_it_is_written(refused, nowhere, host):
    assert refused(f"https://{host}/") == "not-public"
    assert nowhere == []


@pytest.mark.parametrize("host", [host for host in PRIVATE if host != "0.0.0.0"])
def test_a_name_of_an_address_that_is_not_public_is_refused(refused, nowhere, names, host):
    names.set("inner.example", [host])

    assert refused("https://inner.example/") == "not-public"
    assert nowhere == []


@pytest.mark.parametrize("other", ["127.0.0.1", "::1", "10.0.0.1"])
def test_a_name_that_is_also_a_private_address_is_refused(refused, nowhere, names, other):
    names.set("mixed.example", [PUBLIC, other])

    assert refused("https://mixed.example/") == "not-public"
    assert nowhere == []


@pytest.mark.parametrize(("url", "code"), MALFORMED)
def test_what_readers_of_addresses_disagree_on_is_refused(refused, nowhere, names, url, code):
    names.set("example.org", [PUBLIC])

    assert refused(url) == code
    assert nowhere == []


@pytest.mark.parametrize("port", PORTS)
def test_ports_of_other_services_are_refused(refused, nowhere, names, port):
    names.set("example.org", [PUBLIC])

    assert refused(f"https://example.org:{port}/") == "port"
    assert nowhere == []


def test_the_installations_own_name_is_refused(refused, nowhere, names, settings):
    settings.ALLOWED_HOSTS = ["testserver", "label.example", ".branch.example"]
    for host in ("label.example", "north.branch.example"):
        names.set(host, [PUBLIC])

        assert refused(f"https://{host}/api/v1/") == "self"
    assert nowhere == []


def test_another_name_of_the_installations_own_address_is_refused(
    refused, nowhere, names, settings
):
    addresses._own_ips.cache_clear()
    settings.ALLOWED_HOSTS = ["testserver", "label.example"]
    names.set("label.example", [PUBLIC])
    names.set("alias.example", [PUBLIC])

    assert refused("https://alias.example/") == "self"
    addresses._own_ips.cache_clear()


def test_an_address_of_this_machine_is_its_own(refused, nowhere, names, settings, monkeypatch):
    settings.ALLOWED_HOSTS = ["*"]
    monkeypatch.setattr(addresses, "is_public", lambda ip: True)

    assert refused("https://127.0.0.1/") == "self"


def test_the_address_that_was_checked_is_the_one_connected_to(
    client, project, names, nowhere, start
):
    canary = start(Receiver())
    names.set("rebind.example", [PUBLIC], [PUBLIC], ["127.0.0.1"])
    url = "https://rebind.example/x.png"

    assert by_webhook(client, project, url) is None
    Webhook.objects.all().delete()
    before = len(names.asked)
    assert by_image(client, project, url) == "unreachable"

    assert nowhere == [PUBLIC]
    assert names.asked[before:].count("rebind.example") == 1
    assert canary.got == []


def test_the_connection_is_made_to_the_address_the_name_stands_for(
    client, project, names, start, settings
):
    server = start(Receiver(host="127.0.0.3"), trusted=False)
    settings.OUTBOUND_ALLOW = ["127.0.0.3"]
    names.set("hooks.example", ["127.0.0.3"])

    attempt = deliver(client, project, f"http://hooks.example:{server.port}/")

    assert attempt.status == 200
    assert server.got[0].headers["host"] == f"hooks.example:{server.port}"


def test_a_webhooks_address_is_checked_again_at_each_delivery(client, project, names, nowhere):
    names.set("rebind.example", [PUBLIC], ["127.0.0.1"])

    attempt = deliver(client, project, "https://rebind.example/")

    assert (attempt.code, attempt.status, attempt.milliseconds) == ("not-public", None, None)
    assert nowhere == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_webhook_never_follows_a_redirect(client, project, receiver, start, status):
    canary = start(Receiver(), trusted=True)
    receiver.reply = lambda _: Reply(status, {"Location": canary.url})

    attempt = deliver(client, project, receiver.url)

    assert (attempt.status, attempt.code) == (status, "http-status")
    assert canary.got == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("host", ["127.0.0.2", "169.254.169.254", "[::1]", "0x7f000002"])
def test_a_redirect_of_an_image_to_a_private_address_is_refused(
    client, project, receiver, start, status, host
):
    canary = start(Receiver(host="127.0.0.2"), trusted=False)
    where = f"http://{host}:{canary.port}/x.png"
    receiver.reply = lambda _: Reply(status, {"Location": where})

    assert by_image(client, project, receiver.url) == "not-public"
    assert canary.got == []


@pytest.mark.parametrize(("hops", "code"), [(3, None), (4, "redirects")])
def test_an_image_may_be_three_redirects_away(client, project, receiver, hops, code):
    def reply(got):
        left = int(got.path.rpartition("/")[2])
        if left:
            return Reply(302, {"Location": f"/{left - 1}"})
        return Reply(body=picture())

    receiver.reply = reply

    assert by_image(client, project, f"http://127.0.0.1:{receiver.port}/{hops}") == code


@pytest.mark.parametrize("location", ["", "file:///etc/passwd", "https://[::1", "http://a@b/"])
def test_a_redirect_to_nonsense_is_refused(client, project, receiver, location):
    receiver.reply = lambda _: Reply(302, {"Location": location})

    assert by_image(client, project, receiver.url) in {
        "redirects", "scheme", "malformed", "credentials",
    }  # fmt: skip


def test_a_page_that_refreshes_itself_elsewhere_is_not_an_image(client, project, receiver, start):
    canary = start(Receiver())
    page = f'<meta http-equiv="refresh" content="0;url={canary.url}">'
    receiver.reply = lambda _: Reply(headers={"Content-Type": "text/html"}, body=page.encode())

    assert by_image(client, project, receiver.url) == "not-an-image"
    assert canary.got == []


def test_nobody_has_to_wait_while_a_name_server_is_asked(client, project, names, monkeypatch):
    names.set("hooks.example.org", [PUBLIC])
    in_transaction, is_public = [], addresses.is_public

    def judge(ip):
        in_transaction.append(connection.in_atomic_block)
        return is_public(ip)

    monkeypatch.setattr(addresses, "is_public", judge)
    headers = {"Idempotency-Key": "k"}
    body = {"url": "https://hooks.example.org/a"}
    where = reverse("api:webhooks", args=[project.pk])

    made = client.post(where, body, format="json", headers=headers)
    where = reverse("api:webhook", args=[made.json()["id"]])
    changed = client.patch(where, {**body, "events": ["round.*"]}, format="json", headers=headers)

    assert (made.status_code, changed.status_code) == (201, 200)
    assert in_transaction == [False, False]


def test_a_name_server_that_says_nothing_costs_limited_time(refused, names, monkeypatch):
    said = threading.Event()
    monkeypatch.setattr(addresses, "LOOK_UP_S", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: said.wait(30))
    began = time.monotonic()

    try:
        assert refused("https://hooks.example.org/") == "not-public"
        assert time.monotonic() - began < 10
    finally:
        said.set()


def test_a_foreign_name_is_shown_as_the_network_knows_it(client, project, names):
    names.set("xn--80ak6aa92e.com", [PUBLIC])

    answer = client.post(
        reverse("api:webhooks", args=[project.pk]),
        {"url": "https://\u0430\u0440\u0440\u04cf\u0435.com/bücher?q=ä b"},
        format="json",
    )

    assert answer.json()["url"] == "https://xn--80ak6aa92e.com/b%C3%BCcher?q=%C3%A4%20b"


@pytest.mark.parametrize(
    ("talk", "code"),
    [
        (one_byte_at_a_time, "too-slow"),
        (endless_headers, "broken-answer"),
        (cut_short, "broken-answer"),
        (not_http, "broken-answer"),
        (endless_body, "too-large"),
        (lambda connection: None, "unreachable"),
    ],
    ids=["a byte at a time", "endless headers", "cut short", "not HTTP", "endless", "closed"],
)
def test_an_image_from_a_bad_server_costs_limited_time_and_room(
    client, project, raw, settings, monkeypatch, talk, code
):
    settings.MAX_IMAGE_BYTES = 2 * 1024**2
    monkeypatch.setattr(fetching, "TOTAL_S", 1.0)

    assert by_image(client, project, raw(talk).url) == code
    assert list(settings.UPLOADS_ROOT.iterdir()) == []


@pytest.mark.parametrize(
    ("talk", "code"),
    [
        (one_byte_at_a_time, "too-slow"),
        (endless_headers, "broken-answer"),
        (not_http, "broken-answer"),
        (lambda connection: None, "unreachable"),
    ],
    ids=["a byte at a time", "endless headers", "not HTTP", "closed"],
)
def test_a_bad_receiver_costs_a_webhook_limited_time(client, project, raw, monkeypatch, talk, code):
    limits = delivering.outbound.Limits(total_s=1.0, idle_s=1.0, max_bytes=65536)
    monkeypatch.setattr(delivering, "LIMITS", limits)

    assert deliver(client, project, raw(talk).url).code == code


def test_of_an_endless_answer_to_a_webhook_the_beginning_is_kept(client, project, raw):
    attempt = deliver(client, project, raw(endless_body).url)

    assert (attempt.status, attempt.answer) == (200, "x" * 1024)


def test_a_file_that_says_it_is_too_large_is_not_read(client, project, receiver, settings):
    settings.MAX_IMAGE_BYTES = 1024
    receiver.reply = lambda _: Reply(headers={"Content-Length": "2000000000"}, body=b"")

    assert by_image(client, project, receiver.url) == "too-large"


def test_a_packed_answer_is_never_unpacked(client, project, receiver):
    bomb = zlib.compress(bytes(50 * 1024**2), wbits=31)
    receiver.reply = lambda _: Reply(headers={"Content-Encoding": "gzip"}, body=bomb)

    assert by_image(client, project, receiver.url) == "packed"
    assert receiver.got[0].headers["accept-encoding"] == "identity"
    assert len(deliver(client, project, receiver.url).answer) <= 1024


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusted_authority(authority, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    outbound_client.tls_context.cache_clear()
    yield authority
    outbound_client.tls_context.cache_clear()


def secure_url(names, server, host="hooks.example"):
    names.set(host, ["127.0.0.1"])
    return f"https://{host}:{server.port}/x.png"


def test_a_good_certificate_is_verified_for_the_name_though_an_address_is_dialled(
    client, project, names, start, trusted_authority
):
    server = start(Receiver(tls=trusted_authority.context("hooks.example")))
    server.reply = lambda _: Reply(body=picture())
    url = secure_url(names, server)

    assert by_image(client, project, url) is None
    assert deliver(client, project, url).status == 200
    assert {got.headers["host"] for got in server.got} == {f"hooks.example:{server.port}"}


@pytest.mark.parametrize("what", ["expired", "self-signed", "of another name"])
def test_a_bad_certificate_is_refused_and_nothing_is_sent(
    client, project, names, start, trusted_authority, what
):
    context = {
        "expired": lambda: trusted_authority.context("hooks.example", days=-1),
        "self-signed": lambda: trusted_authority.context("hooks.example", self_signed=True),
        "of another name": lambda: trusted_authority.context("other.example"),
    }[what]()
    server = start(Receiver(tls=context))
    url = secure_url(names, server)

    assert by_image(client, project, url) == "tls"
    assert deliver(client, project, url).code == "tls"
    assert server.got == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions_of_tls_are_not_spoken(names, client, project, start, trusted_authority):
    context = trusted_authority.context("hooks.example")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    server = start(Receiver(tls=context))

    assert by_image(client, project, secure_url(names, server)) == "unreachable"
    assert server.got == []


def test_proxies_of_the_environment_are_ignored(client, project, receiver, start, monkeypatch):
    proxy = start(Receiver())
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    receiver.reply = lambda _: Reply(body=picture())

    assert by_image(client, project, receiver.url) is None
    assert deliver(client, project, receiver.url).status == 200
    assert proxy.got == []


def test_refused_closed_and_filtered_look_the_same(client, project, raw, names, monkeypatch):
    closed = raw(lambda connection: None)
    found = {by_image_reason(client, project, closed.url)}
    closed.stop()
    found.add(by_image_reason(client, project, closed.url))

    def never(*_):
        raise TimeoutError

    monkeypatch.setattr(outbound_client, "_dial", never)
    found.add(by_image_reason(client, project, closed.url))

    assert found == {("unreachable", "The server could not be reached.")}
    attempt = deliver(client, project, closed.url)
    assert (attempt.code, attempt.milliseconds, attempt.answer) == ("unreachable", None, "")


def by_image_reason(client, project, url):
    entry = fetch(client, project, url)
    return entry.code, entry.reason


def test_the_installation_can_trust_hosts_and_networks(client, project, names, settings):
    names.set("inner.example", ["10.1.2.3"])
    names.set("deep.lab.example", ["10.9.9.9"])
    names.set("metadata.example", ["169.254.169.254"])
    settings.OUTBOUND_ALLOW = ["10.1.0.0/16", ".lab.example"]

    for url in ("http://10.1.2.3/", "https://inner.example/", "http://deep.lab.example/"):
        assert by_webhook(client, project, url) is None
        Webhook.objects.all().delete()
    for url in ("https://10.2.0.1/", "https://metadata.example/", "https://127.0.0.1/"):
        assert by_webhook(client, project, url) == "not-public"


def test_plain_http_can_be_allowed(client, project, names, settings):
    settings.OUTBOUND_HTTP = True
    names.set("example.org", [PUBLIC])

    assert by_webhook(client, project, "http://example.org/") is None
    assert by_image(client, project, "http://127.0.0.1/") == "not-public"


def test_every_special_network_the_library_knows_is_refused():
    edges = [
        edge
        for version in (ipaddress.IPv4Address, ipaddress.IPv6Address)
        for network in version(
            "::" if version is ipaddress.IPv6Address else "0.0.0.0"
        )._constants._private_networks
        for edge in (network[0], network[-1])
    ]

    assert len(edges) > 20
    assert [str(ip) for ip in edges if addresses.is_public(ip)] == []
    for text in (PUBLIC, "1.1.1.1", "2606:4700::1111", "2a00:1450:4001::1"):
        assert addresses.is_public(ipaddress.ip_address(text))


def test_each_address_of_a_list_gets_its_result_and_a_bad_one_stops_no_other(
    client, project, receiver
):
    other = io.BytesIO()
    Picture.new("RGB", (64, 48), "blue").save(other, "PNG")
    bodies = {
        "/a%20cat.png": Reply(body=picture()),
        "/again.png": Reply(body=picture()),
        "/b.png?size=2": Reply(body=other.getvalue()),
        "/page": Reply(body=b"<html>"),
    }
    receiver.reply = lambda got: bodies.get(got.path, Reply(404))
    base = receiver.url.removesuffix("/hook")
    urls = [f"{base}{path}" for path in [*bodies, "/missing.png"]]

    import_run = fetch(client, project, *urls, "ftp://example.org/x.png", "https://10.0.0.1/x.png")

    shown = client.get(reverse("api:import", args=[project.pk, import_run.pk])).json()
    counts = {name: shown[name] for name in ("n_entries", "n_added", "n_duplicates", "n_refused")}
    assert counts == {"n_entries": 7, "n_added": 2, "n_duplicates": 1, "n_refused": 4}
    assert shown["state"] == "done"
    assert shown["file_name"] == "7 addresses"
    assert {entry["code"] for entry in shown["refused"]} == {
        "not-an-image", "http-status", "scheme", "not-public",
    }  # fmt: skip
    assert set(Image.objects.values_list("file_name", flat=True)) <= {
        "a cat.png", "again.png", "b.png",
    }  # fmt: skip
    table = b"".join(
        client.get(reverse("api:import_entries", args=[project.pk, import_run.pk]))
    ).decode()
    assert "ftp://example.org/x.png" in table


def test_an_import_of_addresses_lets_others_use_the_worker_and_goes_on(
    client, project, receiver, monkeypatch
):
    monkeypatch.setattr(fetching, "YIELDS_AFTER_S", 0.0)
    receiver.reply = lambda _: Reply(404)
    answer = client.post(
        reverse("api:images", args=[project.pk]),
        {"urls": [f"{receiver.url}/{n}" for n in range(40)]},
        format="json",
    )
    import_run = Import.objects.get(pk=answer.json()["id"])

    assert [jobs.run(import_run.job_id) for _ in range(3)] == ["yielded", "yielded", "done"]
    assert sorted(got.path for got in receiver.got) == sorted(f"/hook/{n}" for n in range(40))


def test_a_server_that_does_not_answer_is_not_asked_for_each_of_its_images(
    client, project, raw, receiver
):
    dead = raw(lambda connection: None)
    receiver.reply = lambda _: Reply(body=picture())

    import_run = fetch(
        client, project, *[f"{dead.url}?{n}" for n in range(100)], f"{receiver.url}/x.png"
    )

    assert dead.n_connections < 25
    assert import_run.entries.filter(code="unreachable").count() == 100
    assert import_run.entries.get(position=100).result == "added"


@pytest.mark.parametrize(
    "body",
    [{}, {"urls": []}, {"urls": "https://example.org"}, {"urls": [1, {}]}, {"url": "x"},
     {"urls": ["https://example.org"] * 1001}],
)  # fmt: skip
def test_a_body_that_is_no_list_of_addresses_is_a_400(client, project, body):
    answer = client.post(reverse("api:images", args=[project.pk]), body, format="json")

    assert answer.status_code == 400
    assert not Import.objects.exists()


def test_the_same_addresses_with_the_same_key_are_fetched_once(client, project, receiver):
    where = reverse("api:images", args=[project.pk])
    body = {"urls": [f"{receiver.url}/a.png"]}

    def post():
        return client.post(where, body, format="json", headers={"Idempotency-Key": "once"})

    first, again = post(), post()

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert Import.objects.count() == 1
