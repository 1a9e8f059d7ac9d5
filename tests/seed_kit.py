"""Fills an installation under test, and tells what is in it, from a process of its own.

python seed_kit.py seed N_IMAGES N_PEOPLE | python seed_kit.py audit PROJECT
"""

import json
import sys

import django


def seed(n_images: int, n_people: int) -> dict:
    """Make a project of embedded images nobody needs to see, and people with tokens."""
    import numpy as np
    from factories import make_images, make_member, make_project, make_user, now
    from queue_kit import DIM, embed

    from annotator.accounts.services import create_token

    project = make_project(lead=make_user("the-lead"))
    embed(project, make_images(project, n_images), np.eye(3, DIM) * 3)
    people = [make_member(project) for _ in range(n_people)]
    return {
        "project": project.pk,
        "classes": [entry.pk for entry in project.classes.all()],
        "tokens": [create_token(user=user, name="test", now=now()).secret for user in people],
    }


def audit(project_id: int) -> dict:
    """Return what the database holds of a project."""
    from annotator.events.models import Event
    from annotator.jobs.models import Job
    from annotator.labeling.models import Annotation, Image, Project
    from workqueue.models import Round, Submission
    from workqueue.requests import state_of

    project = Project.objects.get(pk=project_id)
    images = Image.objects.filter(project=project)
    labels = Annotation.objects.filter(image__project=project)
    submissions = Submission.objects.filter(annotation__image__project=project)
    model = state_of(project).model_version
    return {
        "kept": dict(submissions.values_list("key", "annotation")),
        "labels": list(labels.filter(is_current=True).values_list("pk", "image")),
        "n_labels_ever": labels.count(),
        "n_events": Event.objects.filter(project=project, kind="annotation.created").count(),
        "n_labelled": project.n_labelled,
        "n_labelled_counted": images.filter(status=Image.Status.LABELLED).count(),
        "open_jobs": list(
            Job.objects.filter(state__in=["queued", "running"]).values_list("kind", "state")
        ),
        "rounds": list(Round.objects.order_by("number").values_list("state", flat=True)),
        "model": model.folder if model else None,
    }


if __name__ == "__main__":
    django.setup()
    done = seed if sys.argv[1] == "seed" else audit
    sys.stdout.write(json.dumps(done(*map(int, sys.argv[2:]))))
