import numpy as np
import pytest
from crash_kit import KILLED, Crasher
from django.conf import settings
from django.db import connection
from factories import make_images, make_member, make_project, now
from queue_kit import DIM, embed, label

from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from workqueue import learning, services
from workqueue.models import Round
from workqueue.requests import state_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def crasher(django_db_setup):
    crasher = Crasher(data=settings.DATA_DIR, database=connection.settings_dict)
    yield crasher
    crasher.stop()


@pytest.fixture
def setting():
    """A project with a model and a ranking of a first round, and a second round that waits."""
    project = make_project()
    user = make_member(project)
    truth = embed(project, make_images(project, 80), np.eye(3, DIM) * 3)
    label(project, user, truth, 20)
    assert jobs.run(Job.objects.get(kind="round").pk) == "done"
    label(project, user, truth, 20)
    return project, user, Job.objects.get(kind="round", state=Job.State.QUEUED)


def assert_serves(project, user):
    """The order is that of the pointer, and its model can be read and asked."""
    state = state_of(project)
    (lease,) = services.claim(user=user, project=project, n=1, now=now()).leases
    assert lease.served["ranking"] == state.ranking.number
    services.release(user=user, project=project, lease_token=str(lease.token))
    head = learning.load_head(state.model_version)
    assert np.isfinite(head.probabilities(np.zeros((1, DIM), dtype=np.float32))).all()


PLACES = {
    "with_half_the_model_on_disk": ("ml.heads:_write", "after", 1),
    "before_the_model_has_its_row": ("workqueue.learning:save_head", "after", 1),
    "with_half_the_ranking": ("workqueue.rankings:_insert", "after", 2),
    "in_the_flip": ("workqueue.rounds:_flip", "after", 1),
}
MORE_PLACES = {
    "at_the_start": ("workqueue.rounds:_verify_segments", "before", 1),
    "after_the_training": ("workqueue.rounds:learn", "after", 1),
    "before_the_model_has_its_name": ("ml.heads:_sync_folder", "before", 1),
    "when_the_model_has_just_its_name": ("ml.heads:_sync_folder", "before", 2),
    "before_the_ranking": ("workqueue.rounds:write_ranking", "before", 1),
    "before_the_flip": ("workqueue.rounds:overlap_with_former", "after", 1),
    "before_the_commit": ("workqueue.rounds:request_round_if_due", "after", 1),
}


@pytest.mark.parametrize(
    "place",
    [
        *(pytest.param(place, id=name) for name, place in PLACES.items()),
        *(
            pytest.param(place, id=name, marks=pytest.mark.slow)
            for name, place in MORE_PLACES.items()
        ),
    ],
)
def test_a_worker_killed_before_the_commit_leaves_the_old_model_and_the_next_ends_the_round(
    setting, crasher, place
):
    project, user, job = setting
    before = state_of(project)

    assert crasher.do(job.pk, *place) == KILLED

    state = state_of(project)
    assert (state.ranking, state.model_version) == (before.ranking, before.model_version)
    assert state.labels_since_round == 20
    assert_serves(project, user)
    jobs.sweep(now=now() + settings.JOB_LEASE * 2)
    assert jobs.run(job.pk) == "done"
    assert Round.objects.get(job=job).state == Round.State.DONE
    state = state_of(project)
    assert state.ranking.number > before.ranking.number
    assert state.model_version.n_labels == 40
    assert state.labels_since_round == 0
    assert_serves(project, user)


def test_a_worker_killed_right_after_the_commit_has_promoted_once(setting, crasher):
    project, user, job = setting
    before = state_of(project)

    assert crasher.do(job.pk, "annotator.jobs.running:JobRun.__exit__") == KILLED

    state = state_of(project)
    assert state.ranking.number == before.ranking.number + 1
    assert state.model_version.number == before.model_version.number + 1
    assert_serves(project, user)
    jobs.sweep(now=now() + settings.JOB_LEASE * 2)
    assert jobs.run(job.pk) == "not mine"
    assert state_of(project).ranking == state.ranking
    assert Job.objects.get(pk=job.pk).attempt == 1


def test_a_torn_model_stops_neither_the_queue_nor_the_next_round(setting):
    project, user, job = setting
    model = state_of(project).model_version
    weights = settings.MODELS_ROOT / model.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(Exception, match=r"checksum|cannot be read"):
        learning.load_head(model)

    (lease,) = services.claim(user=user, project=project, n=1, now=now()).leases
    services.release(user=user, project=project, lease_token=str(lease.token))
    assert jobs.run(job.pk) == "done"

    assert Round.objects.get(job=job).state == Round.State.DONE
    assert_serves(project, user)
