import numpy as np
import pytest
from factories import make_images, make_member, make_project
from queue_kit import DIM, do_open_jobs, embed, label

from annotator.accounts.models import Role
from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from workqueue import learning, replays, services
from workqueue.models import Replay, Round
from workqueue.requests import request_replay, request_round, state_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def setting():
    """A project with ninety labels, all of them drawn at random."""
    project = make_project()
    truth = embed(project, make_images(project, 140), np.eye(3, DIM) * 2)
    lead = make_member(project, Role.LEAD)
    services.change_settings(
        project=project, actor=lead, changes={"exploration_share": 1.0, "batch_size": 200}
    )
    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()
    label(project, lead, truth, 90)
    return project, lead, truth


def do_replay(replay):
    jobs.run(replay.job_id)
    replay.refresh_from_db()
    replay.job.refresh_from_db()
    return replay


def test_a_bake_off_compares_with_random_and_gives_a_verdict(setting, client_of):
    project, lead, _ = setting
    url = f"/api/v1/projects/{project.pk}/replays/"
    body = {"heuristics": ["auto", "margin"], "n_seeds": 2}

    started = client_of(lead).post(url, body, format="json")
    do_replay(Replay.objects.get(pk=started.json()["id"]))
    result = client_of(lead).get(f"{url}{started.json()['id']}/").json()

    assert started.status_code == 202
    assert result["state"] == "done"
    assert {row["heuristic"] for row in result["result"]["rows"]} == {"auto", "margin", "random"}
    assert result["result"]["verdict"]
    assert result["result"]["n_pool"] + result["result"]["n_test"] == 90
    # All labels were drawn at random, so the test part is an honest sample.
    assert not result["result"]["is_indicative"]


def test_only_a_lead_starts_one_and_only_one_at_a_time(setting, client_of):
    project, lead, _ = setting
    url = f"/api/v1/projects/{project.pk}/replays/"

    assert client_of(make_member(project)).post(url, {}, format="json").status_code == 403
    assert client_of(lead).post(url, {}, format="json").status_code == 202
    assert client_of(lead).post(url, {}, format="json").json()["code"] == "replay-active"
    bad = client_of(lead).post(url, {"heuristics": ["magic"]}, format="json")
    assert bad.status_code == 400


def test_too_few_labels_are_refused_in_words():
    project = make_project()
    truth = embed(project, make_images(project, 40), np.eye(3, DIM) * 2)
    lead = make_member(project, Role.LEAD)
    label(project, lead, truth, 10)

    replay = do_replay(
        request_replay(project=project, heuristics=["margin"], n_seeds=2, actor=lead)
    )

    assert replay.job.state == Job.State.FAILED
    assert "at least 60 labels" in replay.job.error


def test_a_killed_bake_off_goes_on_where_it_was(setting, monkeypatch):
    project, lead, _ = setting
    replay = request_replay(project=project, heuristics=["margin"], n_seeds=2, actor=lead)
    calls = []
    real = learning.replay_once

    def dies_at_the_third(bake, heuristic, *, seed):
        if len(calls) == 2:
            calls.append("died")
            raise MemoryError("the worker is gone")
        calls.append((heuristic, seed))
        return real(bake, heuristic, seed=seed)

    monkeypatch.setattr(learning, "replay_once", dies_at_the_third)
    jobs.run(replay.job_id)
    Job.objects.filter(pk=replay.job_id).update(state=Job.State.QUEUED)
    do_replay(replay)

    assert replay.finished_at
    done = [call for call in calls if call != "died"]
    assert sorted(done) == [("margin", 0), ("margin", 1), ("random", 0), ("random", 1)]


def test_a_bake_off_lets_a_waiting_round_go_first(setting):
    project, lead, _ = setting
    replay = request_replay(project=project, heuristics=["margin"], n_seeds=2, actor=lead)
    request_round(project=project, trigger=Round.Trigger.PERSON)

    jobs.run(replay.job_id)

    replay.refresh_from_db()
    assert not replay.finished_at
    assert Job.objects.get(pk=replay.job_id).state == Job.State.QUEUED
    do_open_jobs()
    assert do_replay(replay).finished_at


def test_auto_follows_a_finding_and_another_choice_does_not(setting):
    project, lead, _ = setting
    replay = request_replay(project=project, heuristics=["auto", "badge"], n_seeds=2, actor=lead)

    replays._publish(replay, {"better_than_auto": "badge", "is_indicative": True})
    assert state_of(project).preferred_heuristic == ""
    replays._publish(replay, {"better_than_auto": "badge", "is_indicative": False})
    assert state_of(project).preferred_heuristic == "badge"

    services.change_settings(
        project=project, actor=lead, changes={"exploration_share": 0.0, "batch_size": 20}
    )
    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()
    assert state_of(project).ranking.heuristic == "badge"
    services.change_settings(project=project, actor=lead, changes={"heuristic": "margin"})
    request_round(project=project, trigger=Round.Trigger.PERSON)
    do_open_jobs()
    assert state_of(project).ranking.heuristic == "margin"
