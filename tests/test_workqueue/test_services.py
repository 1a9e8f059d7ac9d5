import re
import threading
import time
import uuid
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection
from factories import (
    HOUR,
    class_of,
    make_images,
    make_label,
    make_member,
    make_project,
    make_ranking,
    now,
)

from annotator.accounts.models import Role
from annotator.events.models import Event
from annotator.jobs.models import Job
from annotator.labeling import services as labeling
from annotator.labeling.models import Annotation, Image, Project
from workqueue import reports, selectors, services
from workqueue.models import Lease, QueueState, RankedImage, Round
from workqueue.requests import request_round, settings_of

pytestmark = pytest.mark.django_db


def claim(user, project, n=1, **more):
    more.setdefault("now", now())
    return services.claim(user=user, project=project, n=n, **more).leases


def submit(user, project, lease, *names, key=None, at=None):
    return services.submit(
        user=user,
        project=project,
        key=key or uuid.uuid4().hex,
        lease_token=str(lease.token),
        class_ids=[class_of(project, name).pk for name in names or ("cat",)],
        now=at or now(),
    )


def test_images_are_served_in_rank_order_whatever_the_number_of_people():
    project = make_project()
    images = make_images(project, 6)
    best_first = [images[i] for i in (3, 1, 5, 0, 2, 4)]
    make_ranking(project, best_first)
    people = [make_member(project) for _ in range(3)]

    served = [claim(people[turn % 3], project, client=str(turn))[0] for turn in range(6)]

    assert [lease.image for lease in served] == best_first


def test_a_claim_gives_back_what_the_tab_holds_before_it_takes_more():
    project = make_project()
    make_ranking(project, make_images(project, 5))
    user = make_member(project)

    first = claim(user, project, 2, client="tab")
    again = claim(user, project, 3, client="tab")
    other_tab = claim(user, project, 1, client="other")

    assert [lease.token for lease in again[:2]] == [lease.token for lease in first]
    assert len({lease.image_id for lease in again + other_tab}) == 4


def test_an_expired_lease_returns_at_its_old_position_and_the_late_label_is_kept():
    project = make_project()
    images = make_images(project, 3)
    make_ranking(project, images)
    slow, quick = make_member(project), make_member(project)
    (lease,) = claim(slow, project)

    (taken,) = claim(quick, project, now=now() + HOUR)
    submitted = submit(slow, project, lease, "dog", at=now() + HOUR)

    assert taken.image == images[0]
    assert submitted.answer["outcome"] == Annotation.Outcome.LATE
    second = submit(quick, project, taken, "cat", at=now() + HOUR)
    assert second.answer["outcome"] == Annotation.Outcome.SECOND
    assert Annotation.objects.filter(image=images[0], is_current=True).count() == 2
    project.refresh_from_db()
    assert project.n_labelled == 1


def test_the_same_key_gets_the_same_answer_and_another_label_with_it_is_refused():
    project = make_project()
    make_images(project, 2)
    user = make_member(project)
    (lease,) = claim(user, project)

    first = submit(user, project, lease, "cat", key="k")
    again = submit(user, project, lease, "cat", key="k")

    assert again.replayed
    assert again.answer == first.answer
    assert Annotation.objects.count() == 1
    with pytest.raises(services.KeyReusedError):
        submit(user, project, lease, "dog", key="k")


def test_two_labels_from_one_lease_leave_the_second_and_the_history():
    project = make_project()
    make_images(project, 1)
    user = make_member(project)
    (lease,) = claim(user, project)

    submit(user, project, lease, "cat")
    submit(user, project, lease, "dog")

    current = Annotation.objects.get(is_current=True)
    assert current.regions.get().label_class.name == "dog"
    assert current.replaces.regions.get().label_class.name == "cat"
    project.refresh_from_db()
    assert project.n_labelled == 1


def test_undo_withdraws_the_label_and_gives_the_image_back_to_the_person():
    project = make_project()
    images = make_images(project, 2)
    make_ranking(project, images)
    user, other = make_member(project), make_member(project)
    (lease,) = claim(user, project)
    given = submit(user, project, lease)

    back = services.undo(
        user=user, project=project, annotation_id=given.answer["annotation"], now=now()
    )

    assert back.image == images[0]
    assert not Annotation.objects.filter(is_current=True).exists()
    project.refresh_from_db()
    assert project.n_labelled == 0
    assert QueueState.objects.get().labels_since_round == 0
    assert not RankedImage.objects.get(image=images[0]).is_done
    assert claim(other, project)[0].image == images[1]
    with pytest.raises(services.UndoRefusedError):
        services.undo(
            user=other, project=project, annotation_id=given.answer["annotation"], now=now()
        )


def test_an_undo_takes_the_image_over_from_another_tab_of_the_same_person():
    project = make_project()
    make_ranking(project, make_images(project, 1))
    user = make_member(project)
    (first,) = claim(user, project, client="one", now=now() - HOUR)
    claim(user, project, client="two")
    given = submit(user, project, first)

    again = services.undo(
        user=user, project=project, annotation_id=given.answer["annotation"], now=now()
    )

    assert list(Lease.objects.filter(state=Lease.State.LIVE)) == [again]


def test_an_undo_is_refused_while_somebody_else_has_the_image_and_the_label_stays():
    project = make_project()
    make_ranking(project, make_images(project, 1))
    first, second = make_member(project), make_member(project)
    (lease,) = claim(first, project, now=now() - HOUR)
    (held,) = claim(second, project)
    given = submit(first, project, lease)
    undo = partial(
        services.undo, user=first, project=project, annotation_id=given.answer["annotation"]
    )

    with pytest.raises(services.UndoRefusedError, match="Somebody else has"):
        undo(now=now())

    assert Annotation.objects.get(is_current=True).pk == given.answer["annotation"]
    assert list(Lease.objects.filter(state=Lease.State.LIVE)) == [held]
    assert undo(now=now() + HOUR).user == first


def test_only_the_last_twenty_labels_can_be_undone():
    project = make_project()
    make_images(project, 21)
    user = make_member(project)
    given = [submit(user, project, claim(user, project)[0]) for _ in range(21)]

    with pytest.raises(services.UndoRefusedError):
        services.undo(
            user=user, project=project, annotation_id=given[0].answer["annotation"], now=now()
        )

    services.undo(
        user=user, project=project, annotation_id=given[1].answer["annotation"], now=now()
    )


def test_a_skipped_image_goes_to_others_and_comes_back_only_when_taken_back():
    project = make_project()
    images = make_images(project, 1)
    user, other = make_member(project), make_member(project)
    (lease,) = claim(user, project)

    services.skip(user=user, project=project, lease_token=str(lease.token), reason="unsure")

    assert claim(user, project) == []
    assert selectors.why_empty(project, user, now()).reason == "skipped"
    (taken,) = claim(other, project)
    assert taken.image == images[0]
    services.release(user=other, project=project, lease_token=str(taken.token))
    services.unskip(user=user, project=project)
    assert claim(user, project)[0].image == images[0]


def test_one_skip_is_taken_back_and_the_others_stay_skipped():
    project = make_project()
    make_images(project, 2)
    user = make_member(project)
    first, second = claim(user, project, 2)
    for lease in (first, second):
        services.skip(user=user, project=project, lease_token=str(lease.token), reason="unsure")
    asked = {"user": user, "project": project, "lease_token": str(second.token)}

    again = services.unskip_one(**asked, now=now(), client="tab")

    assert (again.image, again.served, again.client) == (second.image, second.served, "tab")
    assert again.token != second.token
    assert services.unskip_one(**asked, now=now()) == again
    assert claim(user, project, 2, client="tab") == [again]


def test_a_skip_is_not_taken_back_when_somebody_else_has_or_labelled_the_image():
    project = make_project()
    make_images(project, 1)
    user, other = make_member(project), make_member(project)
    (lease,) = claim(user, project)
    services.skip(user=user, project=project, lease_token=str(lease.token), reason="unsure")
    asked = {"user": user, "project": project, "lease_token": str(lease.token)}
    (taken,) = claim(other, project)

    with pytest.raises(services.UnskipRefusedError, match="on the screen now"):
        services.unskip_one(**asked, now=now())
    submit(other, project, taken)
    with pytest.raises(services.UnskipRefusedError, match="has labelled"):
        services.unskip_one(**asked, now=now())


def test_a_skip_taken_back_takes_the_image_over_from_another_tab_of_the_same_person():
    project = make_project()
    make_images(project, 1)
    user = make_member(project)
    (forgotten,) = claim(user, project, client="one", now=now() - 2 * HOUR)
    (other_tab,) = claim(user, project, client="other")
    asked = {"user": user, "project": project, "lease_token": str(forgotten.token)}
    services.skip(**asked, reason="unsure")

    again = services.unskip_one(**asked, now=now(), client="one")

    assert again.image == forgotten.image
    other_tab.refresh_from_db()
    assert other_tab.state == Lease.State.RELEASED
    assert claim(user, project, client="one") == [again]


def test_an_empty_queue_says_why():
    project = make_project()
    user, other = make_member(project), make_member(project)
    assert selectors.why_empty(project, user, now()).reason == "no_images"
    make_images(project, 1)
    (lease,) = claim(other, project)

    waiting = selectors.why_empty(project, user, now())

    assert waiting.reason == "leased"
    assert waiting.next_free_at == lease.expires_at
    submit(other, project, lease)
    assert selectors.why_empty(project, user, now()).reason == "done"


def test_an_empty_queue_says_why_though_the_last_lease_of_others_ends_that_very_moment():
    project = make_project()
    user, other = make_member(project), make_member(project)
    make_images(project, 1)
    (lease,) = claim(other, project)
    released = []

    def release_once_leases_were_read(execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if "workqueue_lease" in sql and not released:
            released.append(lease)
            services.release(user=other, project=project, lease_token=str(lease.token))
        return result

    with connection.execute_wrapper(release_once_leases_were_read):
        empty = selectors.why_empty(project, user, now())

    assert released
    assert empty.reason == "leased"


def test_a_full_batch_starts_one_round_and_labels_meanwhile_count_for_the_next():
    project = make_project()
    make_images(project, 10)
    user = make_member(project)
    services.change_settings(project=project, actor=user, changes={"batch_size": 3})

    for _ in range(5):
        submit(user, project, claim(user, project)[0])

    assert Round.objects.count() == 1
    assert Job.objects.get().kind == "round"
    assert QueueState.objects.get().labels_since_round == 5
    assert request_round(project=project, trigger=Round.Trigger.PERSON) is None


def test_fresh_gives_back_what_was_held_and_follows_the_new_ranking():
    project = make_project()
    images = make_images(project, 4)
    make_ranking(project, images)
    user = make_member(project)
    held = claim(user, project, 3, client="tab")
    make_ranking(project, images[::-1])

    leases = claim(user, project, 3, client="tab", fresh=True, keep=[str(held[0].token)], now=now())

    assert [lease.image for lease in leases] == [images[0], images[3], images[2]]


def test_what_is_not_ranked_follows_the_ranking():
    project = make_project()
    images = make_images(project, 4)
    make_ranking(project, images[:1])
    user = make_member(project)

    leases = claim(user, project, 4)

    assert leases[0].image == images[0]
    rest = sorted(images[1:], key=lambda image: image.random_key)
    assert [lease.image for lease in leases[1:]] == rest
    assert leases[1].served == {"kind": "unranked"}


def test_a_label_with_a_deleted_class_is_kept_and_the_image_asked_again():
    project = make_project()
    make_ranking(project, make_images(project, 1))
    user = make_member(project)
    (lease,) = claim(user, project)
    labeling.delete_class(label_class=class_of(project, "cat"), actor=user, now=now())

    submitted = submit(user, project, lease, "cat")

    assert submitted.answer["outcome"] == Annotation.Outcome.ORPHANED
    assert Annotation.objects.count() == 1
    assert Image.objects.get().status == Image.Status.OPEN
    assert claim(user, project)[0].served["position"] == 1
    assert reports.labels_over_time(project) == []


def test_images_of_a_deleted_class_go_back_to_the_queue_and_their_history_stays():
    project = make_project(kind=Project.Kind.SEVERAL_CLASSES)
    make_images(project, 3)
    user = make_member(project)
    only_cat, both, only_dog = claim(user, project, n=3)
    submit(user, project, only_cat, "cat")
    submit(user, project, both, "cat", "dog")
    submit(user, project, only_dog, "dog")

    reopened = labeling.delete_class(label_class=class_of(project, "cat"), actor=user, now=now())

    assert reopened == 1
    project.refresh_from_db()
    assert project.n_labelled == 2
    assert Image.objects.get(status=Image.Status.OPEN) == only_cat.image
    assert Annotation.objects.filter(image=only_cat.image).count() == 2
    assert claim(user, project)[0].image == only_cat.image


def test_deleting_a_class_serves_its_images_in_rank_order_and_counts_them_no_more():
    project = make_project()
    images = make_images(project, 6)
    make_ranking(project, images)
    user = make_member(project)
    for lease in claim(user, project, n=4):
        submit(user, project, lease, "cat" if lease.image in images[1:3] else "dog")

    reopened = labeling.delete_class(label_class=class_of(project, "cat"), actor=user, now=now())

    assert reopened == 2
    project.refresh_from_db()
    assert project.n_labelled == 2
    assert QueueState.objects.get().labels_since_round == 2
    assert Annotation.objects.filter(action=Annotation.Action.WITHDRAW).count() == 2
    again = claim(user, project, n=4)
    assert [lease.image for lease in again] == [*images[1:3], *images[4:]]
    assert again[0].served["position"] == 2
    assert Event.objects.filter(kind="class.deleted").get().payload["images_reopened"] == 2


def test_labels_a_round_has_learned_from_do_not_count_twice_when_their_class_is_deleted():
    project = make_project()
    make_images(project, 4)
    user = make_member(project)
    learned, younger, other = claim(user, project, n=3)
    submit(user, project, learned, "cat")
    Round.objects.create(project=project, number=1, state=Round.State.DONE, started_at=now())
    QueueState.objects.update(labels_since_round=0)
    submit(user, project, younger, "cat")
    submit(user, project, other, "dog")

    labeling.delete_class(label_class=class_of(project, "cat"), actor=user, now=now())

    assert QueueState.objects.get().labels_since_round == 1


@pytest.mark.django_db(transaction=True)
def test_labels_given_while_their_class_is_deleted_leave_no_image_stuck():
    project = make_project()
    make_images(project, 24)
    people = [make_member(project) for _ in range(3)]
    leases = {person: claim(person, project, n=8) for person in people}
    cat, failures = class_of(project, "cat"), []

    def work(action):
        try:
            action()
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    def submit_all(person):
        for lease in leases[person]:
            submit(person, project, lease, "cat")

    def delete():
        while Project.objects.get().n_labelled < 3:
            time.sleep(0.005)
        labeling.delete_class(label_class=cat, actor=people[0], now=now())

    actions = [partial(submit_all, person) for person in people] + [delete]
    threads = [threading.Thread(target=work, args=[action]) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
    assert Image.objects.filter(status=Image.Status.OPEN).count() == 24
    assert Project.objects.get().n_labelled == 0
    assert QueueState.objects.get().labels_since_round == 0
    assert not Annotation.objects.filter(is_current=True).exists()


def test_a_class_deleted_twice_changes_nothing_the_second_time():
    project = make_project()
    make_images(project, 1)
    user = make_member(project)
    submit(user, project, claim(user, project)[0], "cat")
    cat = class_of(project, "cat")

    counts = [labeling.delete_class(label_class=cat, actor=user, now=now()) for _ in range(2)]

    assert counts == [1, 0]
    assert Project.objects.get().n_labelled == 0
    assert Event.objects.filter(kind="class.deleted").count() == 1


def test_the_question_before_deleting_says_how_many_images_go_back(client_of):
    project = make_project(kind=Project.Kind.SEVERAL_CLASSES)
    make_images(project, 4)
    user = make_member(project, Role.LEAD)
    only_cat, both, only_dog, neither = claim(user, project, n=4)
    submit(user, project, only_cat, "cat")
    submit(user, project, both, "cat", "dog")
    submit(user, project, only_dog, "dog")
    make_label(neither.image, user)

    page = client_of(user).get(f"/projects/{project.pk}/settings/").content.decode()

    asked = re.findall(r"Delete the class (\w+)\? ([^\"]*)", page)
    went = labeling.delete_class(label_class=class_of(project, "cat"), actor=user, now=now())
    assert dict(asked)["cat"].startswith("1 image has no other class")
    assert dict(asked)["bird"].startswith("No image goes back")
    assert went == 1


def test_a_label_for_an_image_deleted_meanwhile_is_kept():
    project = make_project()
    (image,) = make_images(project, 1)
    user = make_member(project)
    (lease,) = claim(user, project)
    labeling.delete_image(image=image, actor=user, now=now())

    submitted = submit(user, project, lease)

    assert submitted.answer["outcome"] == Annotation.Outcome.ORPHANED
    project.refresh_from_db()
    assert (project.n_images, project.n_labelled) == (0, 0)


def test_a_heartbeat_prolongs_a_lease_and_says_when_it_is_lost():
    project = make_project()
    make_images(project, 1)
    user = make_member(project)
    (lease,) = claim(user, project)
    later = now() + timedelta(minutes=5)

    until = services.heartbeat(user=user, project=project, lease_token=str(lease.token), now=later)

    assert until == later + timedelta(minutes=settings_of(project).lease_minutes)
    with pytest.raises(services.LeaseLostError):
        services.heartbeat(
            user=user, project=project, lease_token=str(lease.token), now=later + HOUR
        )


def test_the_database_refuses_a_second_live_lease():
    project = make_project()
    make_images(project, 1)
    user, other = make_member(project), make_member(project)
    (lease,) = claim(user, project)
    lease.pk, lease.token, lease.user = None, uuid.uuid4(), other

    with pytest.raises(Exception, match=r"(?i)unique"):
        lease.save(force_insert=True)


def test_an_edit_replaces_the_label_once():
    project = make_project()
    make_images(project, 1)
    user = make_member(project)
    given = submit(user, project, claim(user, project)[0])
    annotation = Annotation.objects.get(pk=given.answer["annotation"])

    edited = services.edit(
        annotation=annotation, actor=user, class_ids=[class_of(project, "dog").pk]
    )

    assert edited.replaces == annotation
    with pytest.raises(labeling.StaleAnnotationError):
        services.edit(annotation=annotation, actor=user, class_ids=[class_of(project, "bird").pk])


def test_settings_changes_are_remembered_with_who_and_what():
    project = make_project()
    lead = make_member(project)

    changed = services.change_settings(
        project=project, actor=lead, changes={"heuristic": "entropy", "batch_size": 20}
    )

    event = project.events.get(kind="queue.settings_changed")
    assert event.actor == lead
    assert event.payload["changes"] == {"heuristic": ["auto", "entropy"]}
    with pytest.raises(services.SettingsChangedError):
        services.change_settings(
            project=project, actor=lead, changes={"batch_size": 5}, version=changed.version - 1
        )


def test_live_leases_end_when_they_are_submitted():
    project = make_project()
    make_images(project, 1)
    user = make_member(project)
    submit(user, project, claim(user, project)[0])

    assert Lease.objects.get().state == Lease.State.SUBMITTED


def test_an_undo_whose_answer_was_lost_can_be_repeated():
    project = make_project()
    make_images(project, 1)
    user = make_member(project)
    given = submit(user, project, claim(user, project)[0]).answer["annotation"]

    first = services.undo(user=user, project=project, annotation_id=given, now=now())
    again = services.undo(user=user, project=project, annotation_id=given, now=now())

    assert again == first


def test_images_in_another_tab_of_mine_are_not_called_done():
    project = make_project()
    make_images(project, 1)
    user = make_member(project)
    claim(user, project, client="one tab")

    assert claim(user, project, client="another") == []
    empty = selectors.why_empty(project, user, now())
    assert empty.reason == "leased"
    assert "another tab" in empty.sentence


def test_a_held_image_that_was_deleted_is_not_shown_again():
    project = make_project()
    images = make_images(project, 2)
    make_ranking(project, images)
    user = make_member(project)
    claim(user, project, client="tab")
    labeling.delete_image(image=images[0], actor=user, now=now())

    assert [lease.image for lease in claim(user, project, client="tab")] == [images[1]]
