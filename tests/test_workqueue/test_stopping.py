import numpy as np
import pytest
from factories import make_images, make_member, make_project, now
from queue_kit import DIM, do_open_jobs, embed, label

from annotator.accounts.models import Role
from annotator.labeling.models import Project
from workqueue import services, stopping
from workqueue.models import ModelVersion, Round
from workqueue.requests import settings_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def project():
    return make_project()


def rules(project, **changes):
    none = {"stop_without_gain": False}
    services.change_settings(project=project, actor=make_member(project), changes=none | changes)
    return settings_of(project)


def with_labels(project, n):
    Project.objects.filter(pk=project.pk).update(n_images=n, n_labelled=n)


def a_round(project, **metrics):
    number = Round.objects.filter(project=project).count() + 1
    model = ModelVersion.objects.create(
        project=project, number=number, class_ids=[], folder=f"f{number}", n_labels=number
    )
    return Round.objects.create(
        project=project, number=number, trigger=Round.Trigger.BATCH, state=Round.State.DONE,
        model_version=model, metrics=metrics,
    )  # fmt: skip


def test_without_rules_nothing_is_advised(project):
    with_labels(project, 10_000)

    assert not stopping.advice(project, rules(project)).should_stop


@pytest.mark.parametrize(("n_labelled", "stops"), [(99, False), (100, True), (140, True)])
def test_the_number_of_labels(project, n_labelled, stops):
    with_labels(project, n_labelled)

    advice = stopping.advice(project, rules(project, stop_at_labels=100))

    assert advice.should_stop is stops
    assert advice.reasons == ([f"{n_labelled} images are labelled; 100 were wanted."] * stops)


def test_the_number_of_rounds_counts_trained_models_only(project):
    settings = rules(project, stop_at_rounds=2)
    a_round(project)
    Round.objects.create(project=project, number=9, trigger="batch", state=Round.State.DONE)

    assert not stopping.advice(project, settings).should_stop
    a_round(project)
    assert stopping.advice(project, settings).should_stop


def test_the_accuracy_counts_by_the_lower_end_of_its_interval(project):
    settings = rules(project, stop_at_accuracy=0.9)
    a_round(project, accuracy={"value": 0.95, "low": 0.88, "high": 0.98, "n": 80})

    assert not stopping.advice(project, settings).should_stop

    a_round(project, accuracy={"value": 0.95, "low": 0.91, "high": 0.98, "n": 300})
    (reason,) = stopping.advice(project, settings).reasons
    assert "at least 91%" in reason


FLAT = {"gain": 0.001, "gain_high": 0.004}


@pytest.mark.parametrize(
    ("agreements", "forecast", "stops"),
    [
        ([0.995, 0.99, 0.992], FLAT, True),
        ([0.995, 0.99], FLAT, False),  # two rounds are not three
        ([0.995, 0.96, 0.992], FLAT, False),  # the models still change
        ([0.995, None, 0.992], FLAT, False),  # not known is not agreed
        ([0.995, 0.99, 0.992], {"gain": 0.003, "gain_high": 0.02}, False),  # it may still gain
        ([0.995, 0.99, 0.992], None, False),
    ],
)
def test_no_gain_needs_agreement_and_a_flat_curve(project, agreements, forecast, stops):
    settings = rules(project, stop_without_gain=True)
    for agreement in agreements:
        a_round(project, agreement=agreement, forecast=forecast)

    assert stopping.advice(project, settings).should_stop is stops


def test_advice_serves_on_and_a_hard_stop_closes_the_queue_until_the_rule_is_changed(project):
    make_images(project, 5)
    person = make_member(project)
    Project.objects.filter(pk=project.pk).update(n_labelled=3)
    rules(project, stop_at_labels=3)

    assert services.claim(user=person, project=project, n=1, now=now()).leases

    other = make_member(project)
    rules(project, stop_is_hard=True)
    assert services.claim(user=other, project=project, n=1, now=now()).leases == []

    rules(project, stop_at_labels=None)
    assert services.claim(user=other, project=project, n=1, now=now()).leases


def test_a_label_given_after_the_stop_is_kept(project):
    make_images(project, 5)
    person = make_member(project)
    (lease,) = services.claim(user=person, project=project, n=1, now=now()).leases
    rules(project, stop_at_labels=1, stop_is_hard=True)
    Project.objects.filter(pk=project.pk).update(n_labelled=1)

    answer = services.submit(
        user=person, project=project, key="k", lease_token=str(lease.token),
        class_ids=[project.classes.first().pk], now=now(),
    )  # fmt: skip

    assert answer.answer["outcome"] == "accepted"


def test_the_api_says_why_the_queue_is_closed(project, client_of):
    make_images(project, 5)
    Project.objects.filter(pk=project.pk).update(n_labelled=3)
    rules(project, stop_at_labels=3, stop_is_hard=True)
    client = client_of(make_member(project))

    status = client.get(f"/api/v1/projects/{project.pk}/queue/status/").json()
    claim = client.post(f"/api/v1/projects/{project.pk}/queue/claim/", {"n": 1}, format="json")

    assert status["stop"] == {
        "should_stop": True, "is_hard": True,
        "reasons": ["3 images are labelled; 3 were wanted."],
    }  # fmt: skip
    assert claim.json()["empty"]["reason"] == "stopped"
    assert "3 were wanted" in str(claim.json()["empty"])


def test_a_real_round_brings_what_the_rules_ask_for():
    project = make_project()
    truth = embed(project, make_images(project, 120), np.eye(3, DIM) * 3)
    person = make_member(project, Role.LEAD)
    services.change_settings(
        project=project, actor=person, changes={"exploration_share": 0.5, "batch_size": 15}
    )
    for _ in range(6):
        label(project, person, truth, 15)
        do_open_jobs()

    metrics = Round.objects.filter(project=project, state=Round.State.DONE)[0].metrics

    assert 0.8 < metrics["agreement"] <= 1
    assert metrics["forecast"]["gain_high"] >= metrics["forecast"]["gain"] >= 0
