import threading
import time
import uuid
from collections import Counter

import pytest
from installation_kit import Installation
from load_kit import in_parallel
from services import Postgres, Redis

pytestmark = pytest.mark.xdist_group("installation")

N_IMAGES, N_PEOPLE = 360, 8
# A job whose worker was killed is free again after its lease, and found by the sweeper.
RECOVERY_S = 240


class Load:
    """People who label over HTTP and repeat what was not answered, as the page's outbox does."""

    def __init__(self, installation, seeded):
        self.installation, self.seeded = installation, seeded
        self.acked: dict[str, tuple[int, int]] = {}  # key -> annotation, image
        self.statuses: Counter[int] = Counter()
        self.is_over = threading.Event()

    def post(self, token, path, **body):
        while True:
            address = f"projects/{self.seeded['project']}/queue/{path}/"
            status, answer = self.installation.post(address, token, **body)
            self.statuses[status] += 1
            if status in {200, 201}:
                return answer
            time.sleep(0.1)

    def label(self, token):
        while leases := self.post(token, "claim", n=1)["leases"]:
            key = uuid.uuid4().hex
            time.sleep(0.1)
            cls = self.seeded["classes"][leases[0]["image"]["id"] % 3]
            given = self.post(token, "submit", lease=leases[0]["token"], class_ids=[cls], key=key)
            self.acked[key] = (given["annotation"]["id"], given["image_id"])

    def run(self, kills):
        def everybody():
            try:
                in_parallel(*[lambda t=token: self.label(t) for token in self.seeded["tokens"]])
            finally:
                self.is_over.set()

        def killer():
            for turn, kill in enumerate(kills, 1):
                due = turn * N_IMAGES // (len(kills) + 2)
                while len(self.acked) < due and not self.is_over.is_set():
                    time.sleep(0.05)
                assert not self.is_over.is_set(), "the load was over before all were killed"
                kill()

        in_parallel(everybody, killer)


def audit(installation, load):
    """Return what the database holds once no background work is open any more."""
    deadline = time.monotonic() + RECOVERY_S
    while True:
        found = installation.ask("audit", load.seeded["project"])
        if not found["open_jobs"] or time.monotonic() > deadline:
            return found
        time.sleep(2)


def check(found, load):
    assert found["kept"] == {key: annotation for key, (annotation, _) in load.acked.items()}
    assert sorted(image for _, image in found["labels"]) == sorted(
        image for _, image in load.acked.values()
    )
    assert len({image for _, image in found["labels"]}) == N_IMAGES
    assert found["n_labels_ever"] == found["n_events"] == N_IMAGES
    assert found["n_labelled"] == found["n_labelled_counted"] == N_IMAGES
    assert found["open_jobs"] == []
    assert "done" in found["rounds"]
    assert set(found["rounds"]) == {"done"}
    assert (load.installation.folder / "models" / found["model"] / "manifest.json").exists()
    assert set(load.statuses) <= {0, 200, 201, 503}, load.statuses


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kill_9_of_web_workers_and_embedded_broker_under_load_costs_no_label(tmp_path):
    installation = Installation(tmp_path)
    try:
        load = Load(installation, installation.ask("seed", N_IMAGES, N_PEOPLE))
        load.run(
            [
                lambda: installation.kill("web"),
                lambda: installation.kill("worker-learning"),
                lambda: installation.kill("worker-fast"),
                lambda: installation.kill("web"),
                # The last, so that no other start makes its folder again.
                installation.kill_embedded_broker,
            ]
        )
        check(audit(installation, load), load)
    finally:
        installation.stop()


@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_kill_9_of_web_workers_redis_and_postgresql_under_load_costs_no_label(tmp_path):
    database, broker = Postgres(), Redis()
    installation = Installation(
        tmp_path, ANNOTATOR_DATABASE_URL=database.url, ANNOTATOR_BROKER_URL=broker.url
    )

    def crash(server):
        server.kill()
        time.sleep(1)
        server.start()

    try:
        load = Load(installation, installation.ask("seed", N_IMAGES, N_PEOPLE))
        load.run(
            [
                lambda: crash(database),
                lambda: installation.kill("worker-learning"),
                lambda: crash(broker),
                lambda: installation.kill("web"),
                lambda: crash(database),
                lambda: installation.kill("worker-fast"),
            ]
        )
        check(audit(installation, load), load)
    finally:
        installation.stop()
        broker.stop()
        database.stop()
