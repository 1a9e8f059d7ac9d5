"""What is deleted is hidden, costs no label, and can be brought back."""

import uuid

import pytest
from django.urls import reverse
from factories import (
    class_of,
    make_images,
    make_member,
    make_project,
    make_ranking,
    make_user,
    now,
    store_files,
)

from annotator.accounts.models import Membership, Role
from annotator.events.models import Event
from annotator.jobs import registry
from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from annotator.labeling import restoring
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, Image, LabelClass, Project
from workqueue import housekeeping, requests, services
from workqueue.models import Lease, QueueState, RankedImage, Round

pytestmark = pytest.mark.django_db


def address(name, project, *more):
    return reverse(f"api:{name}", args=[project.pk, *more])


@pytest.fixture
def project():
    project = make_project()
    make_ranking(project, make_images(project, 4))
    return project


@pytest.fixture
def lead(project, client_of):
    return client_of(make_member(project, Role.LEAD))


@pytest.fixture
def worker(project):
    return make_member(project)


def claim(user, project, n=1):
    return services.claim(user=user, project=project, n=n, now=now()).leases


def submit(user, project, lease, *names, **more):
    return services.submit(
        user=user,
        project=project,
        key=uuid.uuid4().hex,
        lease_token=str(lease.token),
        class_ids=[class_of(project, name).pk for name in names or ("cat",)],
        now=now(),
        **more,
    ).answer


def said(image):
    """Return what stands for an image: person -> names of classes."""
    return {
        row.author_id: sorted(region.label_class.name for region in row.regions.all())
        for row in Annotation.objects.filter(image=image, is_current=True)
    }


def delete_class(project, name="cat"):
    return labeling.delete_class(
        label_class=class_of(project, name), actor=project.created_by, now=now()
    )


def restore_class(project, name="cat"):
    label_class = project.classes.get(name=name)
    return restoring.restore_class(label_class=label_class, actor=project.created_by)


# --- Projects -----------------------------------------------------------------------------------


def test_a_lead_archives_a_project_and_brings_it_back_for_everybody(
    project, lead, worker, client_of
):
    annotator = client_of(worker)
    assert lead.delete(address("project", project)).status_code == 204

    gone = annotator.get(address("project", project))
    listed = lead.get(reverse("api:archived_projects")).json()["results"]
    assert (gone.status_code, gone.json()["code"]) == (410, "project-archived")
    assert annotator.get(reverse("api:projects")).json()["results"] == []
    assert [entry["id"] for entry in listed] == [project.pk]
    assert annotator.get(reverse("api:archived_projects")).json()["results"] == []

    assert annotator.post(address("project_restore", project)).status_code == 403
    assert lead.post(address("project_restore", project)).status_code == 200

    assert annotator.get(address("project", project)).status_code == 200
    assert lead.get(reverse("api:archived_projects")).json()["results"] == []
    assert lead.post(address("project_restore", project)).status_code == 404
    kinds = list(Event.objects.filter(kind__startswith="project.").values_list("kind", flat=True))
    assert kinds == ["project.created", "project.deleted", "project.restored"]


def test_a_stranger_does_not_learn_of_an_archived_project(project, lead, client_of):
    lead.delete(address("project", project))
    stranger = client_of(make_user())

    assert stranger.get(address("project", project)).status_code == 404
    assert stranger.post(address("project_restore", project)).status_code == 404
    assert stranger.get(reverse("label", args=[project.pk])).status_code == 404


def test_archiving_ends_the_leases_refuses_claims_and_keeps_labels_in_flight(
    project, lead, worker, client_of
):
    (lease,) = claim(worker, project)
    lead.delete(address("project", project))
    annotator = client_of(worker)

    refused = annotator.post(address("claim", project), {}, format="json")
    body = {"lease": str(lease.token), "class_ids": [class_of(project).pk], "key": "k"}
    kept = annotator.post(address("submit", project), body, format="json")

    assert (refused.status_code, refused.json()["code"]) == (410, "project-archived")
    assert "a lead can bring it back" in refused.json()["detail"]
    # What counts for nothing answers nothing: the image can be asked of the same person again.
    assert Lease.objects.get(pk=lease.pk).state == Lease.State.RELEASED
    assert (kept.status_code, kept.json()["annotation"]["outcome"]) == (201, "orphaned")
    assert kept.json()["message"].startswith("The project was archived meanwhile")


def test_many_labels_in_flight_follow_their_project_in_a_job_that_can_be_done_again(
    project, lead, worker, monkeypatch
):
    monkeypatch.setattr(restoring, "AT_ONCE", 1)
    leases = claim(worker, project, 2)
    lead.delete(address("project", project))
    for lease in leases:
        assert submit(worker, Project.objects.get(), lease)["outcome"] == "orphaned"

    answer = lead.post(address("project_restore", project)).json()
    before = Project.objects.get().n_labelled
    job = Job.objects.get(kind="settle_project")
    assert jobs.run(job.pk) == "done"

    assert answer["n_labels_recalled"] is None
    assert (before, Project.objects.get().n_labelled) == (0, 2)
    settled = Event.objects.get(kind="project.settled")
    assert settled.payload == {"labels_recalled": 2}


def test_labels_in_flight_count_once_the_project_is_back(project, lead, worker):
    (lease,) = claim(worker, project)
    lead.delete(address("project", project))
    archived = Project.objects.get()
    assert submit(worker, archived, lease)["outcome"] == "orphaned"

    answer = lead.post(address("project_restore", project)).json()

    assert answer["n_labels_recalled"] == 1
    assert said(lease.image) == {worker.pk: ["cat"]}
    assert Project.objects.get().n_labelled == 1
    assert RankedImage.objects.get(image=lease.image).is_done


def test_the_pages_of_an_archived_project_say_so_and_a_lead_can_bring_it_back_there(
    project, lead, worker, client_of
):
    lead.delete(address("project", project))
    where = reverse("label", args=[project.pk])

    theirs = lead.get(where)
    others = client_of(worker).get(where)

    assert (theirs.status_code, others.status_code) == (410, 410)
    assert "is archived" in others.content.decode()
    assert address("project_restore", project) in theirs.content.decode()
    assert address("project_restore", project) not in others.content.decode()


def test_the_projects_page_lists_the_archived_ones_for_their_leads(
    project, lead, worker, client_of
):
    home = reverse("home")
    assert (
        f'data-api="DELETE" action="{address("project", project)}"'
        in lead.get(home).content.decode()
    )

    lead.delete(address("project", project))

    listed = lead.get(home).content.decode().partition("Archived projects")[2]
    assert address("project_restore", project) in listed
    assert "Archived projects" not in client_of(worker).get(home).content.decode()


def test_the_pictures_of_an_archived_project_are_not_served(project, lead):
    store_files(list(project.images.all()))
    image = project.images.first()
    where = reverse("image_file", args=[image.key, "thumbnail.jpg"])
    assert lead.get(where).status_code == 200

    lead.delete(address("project", project))

    assert lead.get(where).status_code == 404


@pytest.fixture
def slow_work(monkeypatch):
    """A kind of job that archives its project while it runs."""
    reached = []

    def work(run):
        reached.append("start")
        project = Project.objects.get(pk=run.project_id)
        labeling.delete_project(project=project, actor=project.created_by, now=now())
        run.progress(1, 3)
        reached.append("end")

    monkeypatch.setattr(registry, "handler_of", lambda kind: work)
    return reached


def test_work_under_way_ends_quietly_when_its_project_is_archived(project, slow_work):
    round_ = requests.request_round(project=project, trigger=Round.Trigger.PERSON)

    assert jobs.run(round_.job_id) == "cancelled"

    assert slow_work == ["start"]
    job, round_ = Job.objects.get(), Round.objects.get()
    assert (job.state, job.error) == ("cancelled", "The project was archived.")
    assert (round_.state, round_.error) == ("failed", "The project was archived.")


def test_work_that_waits_is_not_begun_for_an_archived_project(project, monkeypatch):
    begun = []
    monkeypatch.setattr(registry, "handler_of", lambda kind: begun.append)
    for kind in ("round", "embed", "import"):
        jobs.enqueue(kind=kind, queue="train", project_id=project.pk, params={})
    monkeypatch.setattr(registry, "failure_hook_of", lambda kind: None)
    labeling.delete_project(project=project, actor=project.created_by, now=now())

    assert {jobs.run(job.pk) for job in Job.objects.all()} == {"cancelled"}
    assert begun == []


def test_nothing_is_asked_for_an_archived_project(project, worker):
    services.change_settings(project=project, actor=worker, changes={"batch_size": 1})
    submit(worker, project, claim(worker, project)[0])
    Round.objects.all().update(state=Round.State.DONE)
    Job.objects.all().update(state=Job.State.DONE)
    labeling.delete_project(project=project, actor=worker, now=now())

    housekeeping.keep_house(now=now())
    requests.request_embedding(project_id=project.pk)

    assert not Job.objects.exclude(state=Job.State.DONE).exists()


def test_a_project_that_is_back_is_embedded_and_ranked_again(project):
    labeling.delete_project(project=project, actor=project.created_by, now=now())

    restoring.restore_project(project=project, actor=project.created_by)

    assert [job.kind for job in Job.objects.all()] == ["embed"]


# --- Classes ------------------------------------------------------------------------------------


def test_a_class_that_is_back_makes_its_labels_count_again(project, worker):
    first, second = claim(worker, project, 2)
    submit(worker, project, first, "cat")
    submit(worker, project, second, "dog")
    delete_class(project)
    assert Project.objects.get().n_labelled == 1

    assert restore_class(project) == 1

    assert said(first.image) == {worker.pk: ["cat"]}
    assert Project.objects.get().n_labelled == 2
    assert QueueState.objects.get().labels_since_round == 2
    assert RankedImage.objects.get(image=first.image).is_done
    assert first.image_id not in [lease.image_id for lease in claim(worker, project, 4)]
    event = Event.objects.get(kind="class.restored")
    assert (event.payload["name"], event.payload["labels_recalled"]) == ("cat", 1)


def test_the_history_tells_of_the_deletion_and_the_return(project, worker, client_of):
    (lease,) = claim(worker, project)
    given = submit(worker, project, lease, "cat")
    delete_class(project)
    restore_class(project)

    where = reverse("api:annotation_history", args=[given["annotation"]])
    history = client_of(worker).get(where).json()["results"]

    assert [row["action"] for row in history] == ["label", "withdraw", "restore"]
    assert [row["due_to_class"] for row in history] == [None, "cat", None]
    assert [row["is_current"] for row in history] == [False, False, True]
    cat = class_of(project).pk
    assert [row["class_ids"] for row in history] == [[cat], [], [cat]]


def test_a_label_given_while_its_class_was_gone_counts_once_it_is_back(project, worker):
    (lease,) = claim(worker, project)
    delete_class(project)
    assert submit(worker, project, lease, "cat")["outcome"] == "orphaned"

    assert restore_class(project) == 1

    row = Annotation.objects.get(is_current=True)
    assert (row.action, row.outcome, row.author) == ("restore", "accepted", worker)
    assert said(lease.image) == {worker.pk: ["cat"]}


def test_what_somebody_said_since_stands(project, worker):
    (lease,) = claim(worker, project)
    submit(worker, project, lease, "cat")
    delete_class(project)
    other = make_member(project)
    (theirs,) = claim(other, project)
    assert theirs.image == lease.image
    submit(other, project, theirs, "dog")

    assert restore_class(project) == 0
    assert said(lease.image) == {other.pk: ["dog"]}


def test_what_somebody_said_since_and_took_back_leaves_the_image_to_be_asked(project, worker):
    (lease,) = claim(worker, project)
    submit(worker, project, lease, "cat")
    delete_class(project)
    (again,) = claim(worker, project)
    given = submit(worker, project, again, "dog")
    services.undo(user=worker, project=project, annotation_id=given["annotation"], now=now())

    assert restore_class(project) == 0
    assert said(lease.image) == {}
    assert Image.objects.get(pk=lease.image_id).status == Image.Status.OPEN


def test_a_label_that_was_taken_back_by_its_author_does_not_come_back(project, worker):
    (lease,) = claim(worker, project)
    given = submit(worker, project, lease, "cat")
    services.undo(user=worker, project=project, annotation_id=given["annotation"], now=now())
    delete_class(project)

    assert restore_class(project) == 0
    assert said(lease.image) == {}


def test_labels_of_two_people_come_back_as_they_were(project, worker):
    other = make_member(project)
    (lease,) = services.claim(user=worker, project=project, n=1, now=now()).leases
    Lease.objects.update(state=Lease.State.EXPIRED, expires_at=now())
    (theirs,) = claim(other, project)
    submit(other, project, theirs, "cat")
    assert submit(worker, project, lease, "cat")["outcome"] == "second"
    delete_class(project)

    assert restore_class(project) == 2

    assert said(lease.image) == {worker.pk: ["cat"], other.pk: ["cat"]}
    outcomes = Annotation.objects.filter(is_current=True).values_list("author", "outcome")
    assert dict(outcomes) == {worker.pk: "second", other.pk: "accepted"}
    assert Project.objects.get().n_labelled == 1


def test_of_a_label_of_two_classes_one_that_is_back_is_enough():
    project = make_project(kind=Project.Kind.SEVERAL_CLASSES)
    make_images(project, 1)
    worker = make_member(project)
    (lease,) = claim(worker, project)
    submit(worker, project, lease, "cat", "dog")
    delete_class(project, "cat")
    assert said(lease.image) == {worker.pk: ["cat", "dog"]}
    delete_class(project, "dog")
    assert said(lease.image) == {}

    assert restore_class(project, "cat") == 1
    assert said(lease.image) == {worker.pk: ["cat", "dog"]}
    assert restore_class(project, "dog") == 0


def test_a_class_can_go_and_come_back_again_and_again(project, worker):
    (lease,) = claim(worker, project)
    submit(worker, project, lease, "cat")

    for _ in range(3):
        assert delete_class(project) == 1
        assert QueueState.objects.get().labels_since_round == 0
        assert restore_class(project) == 1
        assert restore_class(project) == 0

    assert said(lease.image) == {worker.pk: ["cat"]}
    assert Project.objects.get().n_labelled == 1
    assert QueueState.objects.get().labels_since_round == 1


def test_labels_of_many_images_follow_their_class_in_the_background(project, worker, monkeypatch):
    monkeypatch.setattr(labeling, "AT_ONCE", 2)
    monkeypatch.setattr(restoring, "AT_ONCE", 2)
    for lease in claim(worker, project, 4)[:3]:
        submit(worker, project, lease, "cat")

    assert delete_class(project) is None
    assert Project.objects.get().n_labelled == 3
    assert jobs.run(Job.objects.get().pk) == "done"
    assert Project.objects.get().n_labelled == 0
    assert not Annotation.objects.filter(is_current=True).exists()

    assert restore_class(project) is None
    assert jobs.run(Job.objects.order_by("pk").last().pk) == "done"
    assert Project.objects.get().n_labelled == 3
    settled = Event.objects.filter(kind="class.settled").order_by("pk")
    cat = class_of(project).pk
    assert [event.payload for event in settled] == [
        {"class": cat, "images_reopened": 3},
        {"class": cat, "labels_recalled": 3},
    ]


def test_a_class_that_came_back_before_its_job_ran_keeps_its_labels(project, worker, monkeypatch):
    monkeypatch.setattr(labeling, "AT_ONCE", 2)
    for lease in claim(worker, project, 4)[:3]:
        submit(worker, project, lease, "cat")
    assert delete_class(project) is None
    restore_class(project)

    assert jobs.run(Job.objects.get().pk) == "done"

    assert Project.objects.get().n_labelled == 3
    assert Annotation.objects.count() == 3


def test_a_name_or_key_taken_meanwhile_is_said_or_given_up(project, lead):
    cat, dog = class_of(project, "cat"), class_of(project, "dog")
    for entry in (cat, dog):
        lead.delete(address("class", project, entry.pk))
    body = {"name": "Cat", "hotkey": dog.hotkey}
    assert lead.post(address("classes", project), body, format="json").status_code == 201

    refused = lead.post(address("class_restore", project, cat.pk))
    back = lead.post(address("class_restore", project, dog.pk))

    assert (refused.status_code, refused.json()["code"]) == (409, "class-exists")
    assert "Rename that one first" in refused.json()["detail"]
    assert (back.status_code, back.json()["hotkey"]) == (200, "")
    assert LabelClass.objects.get(pk=cat.pk).deleted_at is not None


def test_the_settings_page_lists_the_deleted_classes_with_a_way_back(project, lead, worker):
    cat = class_of(project, "cat")
    lead.delete(address("class", project, cat.pk))

    page = lead.get(reverse("project_settings", args=[project.pk])).content.decode()
    listed = lead.get(address("deleted_classes", project)).json()["results"]

    assert address("class_restore", project, cat.pk) in page.partition("Deleted classes")[2]
    assert [entry["name"] for entry in listed] == ["cat"]
    lead.post(address("class_restore", project, cat.pk))
    page = lead.get(reverse("project_settings", args=[project.pk])).content.decode()
    assert "Deleted classes" not in page


# --- Images -------------------------------------------------------------------------------------


def test_a_deleted_image_is_listed_for_leads_and_comes_back_with_its_label(
    project, lead, worker, client_of
):
    (lease,) = claim(worker, project)
    submit(worker, project, lease, "cat")
    image = lease.image
    lead.delete(address("image", project, image.pk))
    assert (Project.objects.get().n_images, Project.objects.get().n_labelled) == (3, 0)

    where, asked = address("images", project), {"status": "deleted"}
    (listed,) = lead.get(where, asked).json()["results"]
    assert (listed["id"], listed["status"]) == (image.pk, "deleted")
    assert listed["annotation"]["class_ids"] == [class_of(project).pk]
    assert client_of(worker).get(where, asked).status_code == 403
    page = lead.get(reverse("images", args=[project.pk]), asked).content.decode()
    assert image.file_name in page

    assert lead.post(address("image_restore", project, image.pk)).status_code == 200

    assert (Project.objects.get().n_images, Project.objects.get().n_labelled) == (4, 1)
    assert said(image) == {worker.pk: ["cat"]}
    assert lead.get(where, asked).json()["results"] == []
    assert lead.post(address("image_restore", project, image.pk)).status_code == 404
    kinds = Event.objects.filter(kind__startswith="image.").values_list("kind", flat=True)
    assert list(kinds) == ["image.deleted", "image.restored"]
    assert Job.objects.get().kind == "embed"


def test_a_label_given_while_its_image_was_gone_counts_once_it_is_back(project, lead, worker):
    (lease,) = claim(worker, project)
    lead.delete(address("image", project, lease.image_id))
    assert submit(worker, project, lease)["outcome"] == "orphaned"

    answer = lead.post(address("image_restore", project, lease.image_id)).json()

    assert answer["n_labels_recalled"] == 1
    assert said(lease.image) == {worker.pk: ["cat"]}
    assert Project.objects.get().n_labelled == 1


def test_an_image_uploaded_again_since_is_not_there_twice(project, lead):
    image = project.images.first()
    lead.delete(address("image", project, image.pk))
    (again,) = make_images(project, 1)
    Image.objects.filter(pk=again.pk).update(sha256=image.sha256)

    refused = lead.post(address("image_restore", project, image.pk))

    assert (refused.status_code, refused.json()["code"]) == (409, "image-exists")
    assert Image.objects.get(pk=image.pk).deleted_at is not None


def test_only_leads_bring_anything_back(project, lead, client_of):
    cat, image = class_of(project), project.images.first()
    lead.delete(address("class", project, cat.pk))
    lead.delete(address("image", project, image.pk))
    reviewer, stranger = client_of(make_member(project, Role.REVIEWER)), client_of(make_user())

    for where in (
        address("class_restore", project, cat.pk),
        address("image_restore", project, image.pk),
    ):
        assert reviewer.post(where).status_code == 403
        assert stranger.post(where).status_code == 404
    assert Membership.objects.count() == 3
