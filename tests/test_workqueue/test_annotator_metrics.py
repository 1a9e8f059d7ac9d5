"""What the metrics say of each person."""

import pytest
from django.urls import reverse
from factories import class_of, make_images, make_label, make_member, make_project, now

from annotator.accounts.models import Role
from annotator.labeling import services as labeling

pytestmark = pytest.mark.django_db


@pytest.fixture
def project():
    return make_project()


@pytest.fixture
def people(project):
    return [make_member(project, name=name) for name in ("anna", "ben", "carl")]


def say(image, person, name="cat", seconds=None):
    return make_label(image, person, class_of(image.project, name), seconds=seconds)


@pytest.fixture
def figures(project, client_of):
    def ask(role=Role.REVIEWER):
        client = client_of(make_member(project, role))
        answer = client.get(reverse("api:metrics", args=[project.pk])).json()
        return (
            {row["name"]: row for row in answer["annotators"]} if "annotators" in answer else None
        )

    return ask


def test_each_persons_labels_are_counted_and_timed(project, people, figures):
    anna, ben, _ = people
    images = make_images(project, 5)
    for image, seconds in zip(images, [1, 2, 40, None, 4], strict=True):
        say(image, anna, seconds=seconds)
    withdrawn = say(images[0], ben, seconds=9)
    say(images[1], ben)
    labeling.withdraw_annotation(annotation=withdrawn, actor=ben)

    found = figures()

    assert list(found) == ["anna", "ben"]
    assert (found["anna"]["user_id"], found["anna"]["n_labels"]) == (anna.pk, 5)
    assert found["anna"]["median_seconds"] == 3.0
    assert (found["ben"]["n_labels"], found["ben"]["median_seconds"]) == (1, None)


def test_agreement_is_how_many_labels_of_others_on_the_same_images_are_equal(
    project, people, figures
):
    anna, ben, carl = people
    for number, image in enumerate(make_images(project, 10)):
        say(image, anna, "cat")
        say(image, ben, "cat" if number < 5 else "dog")
    for image in project.images.all()[:2]:
        say(image, carl, "bird")
    say(make_images(project, 1)[0], anna)  # nobody else has seen it

    found = figures()

    # Of anna's ten pairs with ben five are equal, and none of the two with carl.
    assert (found["anna"]["n_compared"], found["anna"]["agreement"]) == (10, round(5 / 12, 3))
    assert (found["ben"]["n_compared"], found["ben"]["agreement"]) == (10, round(5 / 12, 3))
    # Two images say nothing yet.
    assert (found["carl"]["n_compared"], found["carl"]["agreement"]) == (2, None)


def test_labels_of_other_projects_and_deleted_images_say_nothing(project, people, figures):
    anna, ben, _ = people
    other = make_project()
    for image in make_images(other, 10):
        say(image, anna)
        say(image, ben, "dog")
    images = make_images(project, 11)
    for image in images:
        say(image, anna, seconds=1)
        say(image, ben)
    labeling.delete_image(image=images[0], actor=project.created_by, now=now())

    found = figures()

    assert (found["anna"]["n_compared"], found["anna"]["agreement"]) == (10, 1.0)
    assert found["anna"]["median_seconds"] == 1.0


def test_figures_of_people_are_for_reviewers_and_leads(project, people, figures):
    say(make_images(project, 1)[0], people[0])

    assert figures(Role.ANNOTATOR) is None
    assert list(figures(Role.REVIEWER)) == ["anna"]
    assert list(figures(Role.LEAD)) == ["anna"]
