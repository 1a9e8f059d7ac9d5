"""Two people change the same thing: one is told, with what is there now, and nothing is lost."""

import uuid

import pytest
from django.urls import reverse
from factories import class_of, make_images, make_member, make_project, make_user

from annotator.accounts.models import Role
from annotator.labeling.models import Annotation, Project
from workqueue.models import QueueSettings

pytestmark = pytest.mark.django_db


def address(name, project, *more):
    return reverse(f"api:{name}", args=[project.pk, *more])


@pytest.fixture
def project():
    project = make_project()
    make_images(project, 2)
    return project


@pytest.fixture
def author(project, client_of):
    return client_of(make_member(project, name="anna"))


@pytest.fixture
def reviewer(project, client_of):
    return client_of(make_member(project, Role.REVIEWER, "rita"))


@pytest.fixture
def given(project, author):
    """The id of a label of the author's: cat."""
    (lease,) = author.post(address("claim", project), {}, format="json").json()["leases"]
    body = {
        "lease": lease["token"],
        "class_ids": [class_of(project).pk],
        "key": uuid.uuid4().hex,
    }
    answer = author.post(address("submit", project), body, format="json")
    return answer.json()["annotation"]["id"]


def edit(client, project, pk, name, version):
    headers = {"If-Match": version} if version else {}
    where = reverse("api:annotation", args=[pk])
    body = {"class_ids": [class_of(project, name).pk]}
    return client.put(where, body, format="json", headers=headers)


def test_of_two_who_change_a_label_one_gets_412_with_the_others_and_both_are_in_the_history(
    project, author, reviewer, given
):
    seen = {
        who: who.get(reverse("api:annotation", args=[given]))["ETag"] for who in (author, reviewer)
    }

    first = edit(reviewer, project, given, "dog", seen[reviewer])
    second = edit(author, project, given, "bird", seen[author])

    assert first.status_code == 200
    assert (second.status_code, second.json()["code"]) == (412, "version-mismatch")
    current = second.json()["current"]
    assert current["class_ids"] == [class_of(project, "dog").pk]
    assert second.json()["by"] == "rita"
    third = edit(author, project, current["id"], "bird", f'"{second.json()["version"]}"')
    assert third.status_code == 200
    where = reverse("api:annotation_history", args=[given])
    rows = author.get(where).json()["results"]
    names = [class_of(project, name).pk for name in ("cat", "dog", "bird")]
    assert [row["class_ids"] for row in rows] == [[pk] for pk in names]
    assert [row["by"] for row in rows] == ["anna", "rita", "anna"]
    assert {row["author"] for row in rows} == {"anna"}


def test_an_edit_that_names_no_version_is_428_and_a_star_takes_what_is_there(
    project, author, given
):
    refused = edit(author, project, given, "dog", "")

    assert (refused.status_code, refused.json()["code"]) == (428, "condition-required")
    assert Annotation.objects.count() == 1
    assert edit(author, project, given, "dog", "*").status_code == 200
    # The address names a label that was replaced: even a star does not overwrite the newer one.
    assert edit(author, project, given, "bird", "*").status_code == 412


@pytest.mark.parametrize("version", ['"1x"', '"99999999999999999999"', '"-1"', '""'])
def test_a_version_that_is_none_is_412(project, author, given, version):
    assert edit(author, project, given, "dog", version).status_code == 412
    assert Annotation.objects.count() == 1


def test_a_label_withdrawn_meanwhile_is_412_without_a_current_one(project, author, reviewer, given):
    author.post(address("undo", project), {"annotation": given}, format="json")

    answer = edit(reviewer, project, given, "dog", f'"{given}"')

    assert answer.status_code == 412
    assert answer.json()["current"] is None
    assert "withdrawn" in answer.json()["detail"]


def test_a_label_says_what_replaced_it(project, author, given):
    newer = edit(author, project, given, "dog", f'"{given}"').json()["annotation"]["id"]

    shown = author.get(reverse("api:annotation", args=[given]))

    assert shown["ETag"] == f'"{given}"'
    assert (shown.json()["is_current"], shown.json()["replaced_by"]) == (False, newer)


def test_labels_of_others_are_for_reviewers_and_of_other_projects_for_nobody(
    project, reviewer, given, client_of
):
    colleague, stranger = client_of(make_member(project)), client_of(make_user())

    for name in ("annotation", "annotation_history"):
        where = reverse(f"api:{name}", args=[given])
        assert reviewer.get(where).status_code == 200
        assert colleague.get(where).status_code == 403
        assert stranger.get(where).status_code == 404
    assert edit(colleague, project, given, "dog", "*").status_code == 403
    assert edit(stranger, project, given, "dog", "*").status_code == 404


def test_of_two_leads_who_save_a_project_one_gets_412_with_the_others_text(project, client_of):
    leads = [client_of(make_member(project, Role.LEAD)) for _ in range(2)]
    where = address("project", project)
    seen = [lead.get(where)["ETag"] for lead in leads]

    texts = ["Look at the tail.", "Look at the ears."]
    answers = [
        lead.patch(where, {"instructions": text}, format="json", headers={"If-Match": version})
        for lead, text, version in zip(leads, texts, seen, strict=True)
    ]

    assert [answer.status_code for answer in answers] == [200, 412]
    body = answers[1].json()
    assert body["current"] == {"name": "Animals", "instructions": texts[0]}
    assert Project.objects.get().instructions == texts[0]
    again = leads[1].patch(
        where, {"instructions": texts[1]}, format="json",
        headers={"If-Match": f'"{body["version"]}"'},
    )  # fmt: skip
    assert again.status_code == 200
    assert again["ETag"] == leads[0].get(where)["ETag"]
    changes = project.events.filter(kind="project.changed").order_by("pk")
    assert [event.payload["changes"]["instructions"] for event in changes] == [
        ["", texts[0]],
        texts,
    ]


def test_a_program_may_leave_the_version_out_and_overwrite(project, client_of):
    lead = client_of(make_member(project, Role.LEAD))
    where = address("project", project)

    for headers in ({}, {"If-Match": "*"}):
        answer = lead.patch(where, {"name": "Pets"}, format="json", headers=headers)
        assert answer.status_code == 200


def test_settings_changed_meanwhile_are_in_the_answer(project, client_of):
    lead = client_of(make_member(project, Role.LEAD))
    where = address("queue_settings", project)
    seen = lead.get(where)["ETag"]
    lead.patch(where, {"batch_size": 5}, format="json", headers={"If-Match": seen})

    stale = lead.patch(where, {"batch_size": 7}, format="json", headers={"If-Match": seen})

    assert stale.status_code == 412
    assert stale.json()["current"]["batch_size"] == 5
    again = {"If-Match": f'"{stale.json()["version"]}"'}
    assert lead.patch(where, {"batch_size": 7}, format="json", headers=again).status_code == 200
    assert QueueSettings.objects.get().batch_size == 7


def test_the_forms_of_the_pages_carry_the_version_they_were_filled_from(project, client_of):
    lead = client_of(make_member(project, Role.LEAD))

    for page, name in (("project_settings", "project"), ("queue_settings", "queue_settings")):
        html = lead.get(reverse(page, args=[project.pk])).content.decode()
        version = lead.get(address(name, project))["ETag"].strip('"')
        assert f'data-version="{version}"' in html
