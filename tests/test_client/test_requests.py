"""What the client does when a request is not simply answered."""

import hashlib
import json

import httpx
import pytest
from client_kit import token_for
from factories import make_images, make_user
from receiver_kit import RawServer, Receiver, Reply, cut_short
from services import free_port

from annotator.accounts import throttling
from annotator.accounts.models import RateCount, Scope
from annotator.labeling.models import Project
from annotator_client import (
    AnnotatorError,
    Client,
    ConflictError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    NotSignedInError,
    RateLimitedError,
    ServerError,
    UnreachableError,
)
from annotator_client.transport import Transport

OK = Reply(body=b'{"id": 1}')


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.stop()


def _answers(receiver, *replies):
    left = list(replies)
    receiver.reply = lambda _: left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture
def waits():
    return []


@pytest.fixture
def transport(receiver, waits):
    transport = Transport(f"http://127.0.0.1:{receiver.port}", "secret", sleep=waits.append)
    yield transport
    transport.close()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_passes_is_sent_again_after_the_time_the_server_names(
    receiver, transport, waits, status
):
    _answers(receiver, Reply(status, {"Retry-After": "7"}), Reply(status), OK)

    assert transport.get("me/") == {"id": 1}

    assert [got.path for got in receiver.got] == ["/api/v1/me/"] * 3
    assert waits[0] == 7
    assert 0.5 <= waits[1] <= 0.75


def test_a_write_that_is_sent_again_carries_the_same_key_and_body_and_another_write_another_key(
    receiver, transport
):
    _answers(receiver, Reply(503), OK)

    transport.write("POST", "projects/", {"name": "Pets"})
    transport.write("POST", "projects/", {"name": "Pets"})

    keys = [got.headers["idempotency-key"] for got in receiver.got]
    assert keys[0] == keys[1] != keys[2]
    assert [json.loads(got.body) for got in receiver.got] == [{"name": "Pets"}] * 3


def test_a_write_that_is_still_being_done_is_asked_about_again(receiver, transport, waits):
    busy = json.dumps({"code": "idempotency-in-progress"}).encode()
    _answers(receiver, Reply(409, {"Retry-After": "1"}, busy), OK)

    assert transport.write("POST", "projects/", {}) == {"id": 1}
    assert waits == [1]


def test_the_pauses_grow_and_the_patience_ends_with_the_reason(receiver):
    waits = []
    transport = Transport(receiver.url.removesuffix("/hook"), "x", patience_s=5, sleep=waits.append)
    problem = {"code": "database-unavailable", "detail": "Come back later."}
    _answers(receiver, Reply(503, {}, json.dumps(problem).encode()))

    with pytest.raises(ServerError, match=r"Come back later\.") as raised:
        transport.get("me/")

    assert raised.value.code == "database-unavailable"
    assert waits == sorted(waits)
    assert 3 <= len(waits) <= 6


@pytest.mark.parametrize("status", [400, 404, 409, 500, 507])
def test_what_does_not_pass_is_sent_once(receiver, transport, status):
    _answers(receiver, Reply(status, {}, b"<html>a proxy</html>"))

    with pytest.raises(AnnotatorError, match=str(status)):
        transport.get("me/")

    assert len(receiver.got) == 1


def test_a_connection_that_breaks_is_tried_again_and_then_told(waits):
    server = RawServer(cut_short)
    transport = Transport(f"http://127.0.0.1:{server.port}", "x", patience_s=1, sleep=waits.append)

    with pytest.raises(UnreachableError, match=f"127.0.0.1:{server.port} does not answer"):
        transport.get("me/")

    assert server.n_connections == len(waits) + 1 > 1
    server.stop()


def test_where_nobody_listens_the_error_says_what_to_look_at():
    with (
        Client(f"http://127.0.0.1:{free_port()}", "x", patience_s=0) as client,
        pytest.raises(UnreachableError, match="Is the address right, and is the server running"),
    ):
        client.me()


def test_a_server_that_sends_requests_on_is_named_and_not_followed(receiver, transport):
    _answers(receiver, Reply(301, {"Location": "https://label.example.org/"}))

    with pytest.raises(AnnotatorError, match=r"https://label\.example\.org/"):
        transport.get("me/")


def test_an_address_or_token_that_is_missing_is_told_before_anything_is_sent(monkeypatch):
    monkeypatch.delenv("ANNOTATOR_URL", raising=False)
    monkeypatch.delenv("ANNOTATOR_TOKEN", raising=False)

    with pytest.raises(AnnotatorError, match="ANNOTATOR_URL"):
        Client()
    with pytest.raises(AnnotatorError, match="ANNOTATOR_TOKEN"):
        Client("http://127.0.0.1")


@pytest.mark.parametrize("url", ["label.example.org", "http://", "http://[::1", "ftp://x", "   x"])
def test_an_address_that_is_none_is_told(url):
    with pytest.raises(AnnotatorError, match="no address of a server"):
        Client(url, "x")


def test_a_token_with_a_line_end_is_taken_and_one_with_nonsense_is_not(receiver):
    _answers(receiver, OK)
    with Client(f"http://127.0.0.1:{receiver.port}/api/v1/", "secret\n") as client:
        client.me()

    assert receiver.got[0].headers["authorization"] == "Bearer secret"
    assert receiver.got[0].path == "/api/v1/me/"
    with pytest.raises(AnnotatorError, match="Copy it again"):
        Client("http://127.0.0.1", "annp_…")


def test_a_page_of_somebody_else_is_not_taken_for_an_answer(receiver, transport):
    _answers(receiver, Reply(200, {}, b"<html>Please sign in</html>"))

    with pytest.raises(AnnotatorError, match="Is it an Annotator server"):
        transport.get("me/")


def test_a_file_is_downloaded_again_when_the_line_breaks_and_appears_whole_or_not_at_all(
    receiver, transport, tmp_path
):
    target = tmp_path / "labels.csv"
    _answers(
        receiver, Reply(503), Reply(200, {"Content-Length": "99"}, b"hal"), Reply(body=b"whole")
    )

    transport.download("/file", target, sha256=hashlib.sha256(b"whole").hexdigest())

    assert target.read_bytes() == b"whole"
    with pytest.raises(AnnotatorError, match="damaged"):
        transport.download("/file", tmp_path / "other", sha256="0" * 64)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]


@pytest.mark.django_db(transaction=True)
class TestARealServer:
    def test_a_bad_token_is_an_exception_of_its_own(self, live_server):
        with Client(live_server.url, "annp_nonsense") as client, pytest.raises(NotSignedInError):
            client.me()

    def test_a_token_that_may_only_read_says_what_is_missing(self, live_server, lead):
        with (
            Client(live_server.url, token_for(lead, Scope.READ)) as client,
            pytest.raises(ForbiddenError) as raised,
        ):
            client.create_project("Pets")

        assert raised.value.code == "scope-missing"
        assert raised.value.problem["needed"] == "manage"

    def test_a_project_of_somebody_else_is_not_found(self, client, live_server):
        with Client(live_server.url, token_for(make_user())) as other:
            theirs = other.create_project("Theirs")

        with pytest.raises(NotFoundError):
            client.project(theirs.id)

    def test_wrong_fields_are_named(self, project):
        with pytest.raises(InvalidRequestError) as raised:
            project.change_settings(batch_size=0, lease_minutes=0)

        assert {entry.pointer for entry in raised.value.errors} == {"/batch_size", "/lease_minutes"}

    def test_more_requests_than_allowed_wait_for_the_next_window(
        self, live_server, token, settings
    ):
        settings.REQUEST_RATES = {"api": 5, "browser": 5}
        waits = []

        def sleep(seconds):
            waits.append(seconds)
            throttling.rates.clear()
            RateCount.objects.all().delete()

        transport = Transport(live_server.url, token, sleep=sleep)

        for _ in range(8):
            transport.get("me/")

        assert len(waits) == 1
        assert 1 <= waits[0] <= 60

    def test_whoever_has_no_patience_gets_the_limit_as_an_exception(
        self, live_server, token, settings
    ):
        settings.REQUEST_RATES = {"api": 2, "browser": 2}
        with Client(live_server.url, token, patience_s=0) as client:
            client.me()
            client.me()

            with pytest.raises(RateLimitedError, match="More than 2 requests"):
                client.me()

    def test_a_write_whose_answer_is_lost_is_done_once(self, live_server, token, lead):
        transport = Transport(live_server.url, token, sleep=lambda _: None)
        really = transport._http.send
        lost = []

        def lose_the_first(request):
            answer = really(request)
            if not lost:
                lost.append(answer)
                raise httpx.RemoteProtocolError("the line was cut")
            return answer

        transport._http.send = lose_the_first

        made = transport.write("POST", "projects/", {"name": "Once"})

        assert [entry.pk for entry in Project.objects.filter(name="Once")] == [made["id"]]
        assert lost[0].json() == made

    def test_a_list_is_followed_to_its_end_and_nothing_comes_twice(self, client, project):
        images = make_images(Project.objects.get(pk=project.id), 450)

        found = [image.id for image in project.images()]

        assert found == sorted((image.pk for image in images), reverse=True)

    def test_a_stale_cursor_is_told_and_not_taken_for_the_end(self, project, settings):
        make_images(Project.objects.get(pk=project.id), 250)
        images = project.images()
        next(images)

        settings.SECRET_KEY = "another-" * 8

        with pytest.raises(InvalidRequestError, match="cursor"):
            list(images)

    def test_what_has_changed_meanwhile_is_a_conflict(self, project):
        project.start_round()

        with pytest.raises(ConflictError) as raised:
            project.start_round()

        assert raised.value.code == "round-active"
