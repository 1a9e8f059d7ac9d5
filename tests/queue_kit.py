"""What several tests of the queue do: label what is served, and do the rounds that wait."""

import uuid

import numpy as np
from django.conf import settings
from factories import now

from annotator.jobs import services as jobs
from annotator.jobs.models import Job
from ml import embedding_store
from workqueue import learning, services
from workqueue.models import Embedding, Segment

DIM = 16


def embed(project, images, centres):
    """Store an embedding near its class's centre for each image; return image id -> class."""
    rng = np.random.default_rng(0)
    classes = list(project.classes.all())
    chosen = rng.integers(0, len(classes), len(images))
    vectors = (centres[chosen] + rng.normal(0, 0.6, (len(images), DIM))).astype(np.float16)
    stored = embedding_store.write_segment(settings.EMBEDDINGS_ROOT, vectors)
    segment = Segment.objects.create(
        project=project,
        backbone=learning.BACKBONE,
        name=stored.name,
        n_rows=stored.rows,
        dim=stored.dim,
        sha256=stored.sha256,
    )
    Embedding.objects.bulk_create(
        Embedding(image=image, segment=segment, row=row) for row, image in enumerate(images)
    )
    return {image.pk: classes[index] for image, index in zip(images, chosen, strict=True)}


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
