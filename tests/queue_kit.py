"""What several tests of the queue do: label what is served, and do the rounds that wait."""

import uuid

from factories import now

from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from workqueue import services


def do_open_jobs():
    for job in Job.objects.filter(kind="round", state=Job.State.QUEUED):
        jobs.run(job.pk)


def label(project, user, truth, n):
    given = []
    for _ in range(n):
        (lease,) = services.claim(user=user, project=project, n=1, now=now()).leases
        services.submit(
            user=user,
            project=project,
            key=uuid.uuid4().hex,
            lease_token=str(lease.token),
            class_ids=[truth[lease.image_id].pk],
            now=now(),
        )
        given.append(lease)
    return given
