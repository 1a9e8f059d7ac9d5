"""A try of the whole queue on a scratch project that nobody ever sees.

Everything happens in one transaction that is rolled back, also when a step fails or the process is
killed: no row, no job and no message is left.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime

from django.db import transaction

from annotator.accounts import services as accounts
from annotator.accounts.models import User
from annotator.labeling import services as labeling
from annotator.labeling.models import Image, Project
from workqueue import services
from workqueue.models import Lease, RankedImage, Ranking
from workqueue.requests import state_of

# Fewer than a batch, so that no round is asked for.
N_IMAGES = 6


class SelfTestError(Exception):
    """The queue did not do what it promises; the text says what."""


def try_queue(*, now: datetime) -> None:
    """Create, claim, submit, repeat, undo and empty a queue, then take everything back.

    Raises:
        SelfTestError: the queue broke a promise.
    """
    with transaction.atomic():
        try:
            _Trial(now).run()
        finally:
            transaction.set_rollback(True)


class _Trial:
    def __init__(self, now: datetime) -> None:
        self.now = now
        self.user: User = accounts.ensure_robot(
            username=f"self-test-{uuid.uuid4().hex}", name="Self-test"
        )
        self.project = labeling.create_project(
            actor=self.user,
            name="Self-test",
            kind=Project.Kind.ONE_CLASS,
            classes=[labeling.ClassSpec("yes"), labeling.ClassSpec("no")],
        )
        images = _create_images(self.project)
        # Neither as they came nor in their random order: only the ranking has this one.
        self.order = [image.pk for image in images[::2] + images[1::2]]
        _rank(self.project, self.order)

    def run(self) -> None:
        first = self._claim()
        _expect(first.image_id, self.order[0], "the first image served")
        key = uuid.uuid4().hex
        given = self._submit(first, key)
        again = self._submit(first, key)
        _expect(again, given, "the answer to a repeated submit")
        returned = services.undo(
            user=self.user, project=self.project, annotation_id=given, now=self.now
        )
        _expect(returned.image_id, first.image_id, "the image an undo gives back")
        services.release(user=self.user, project=self.project, lease_token=str(returned.token))
        served = []
        for _ in self.order:
            lease = self._claim()
            served.append(lease.image_id)
            self._submit(lease, uuid.uuid4().hex)
        _expect(served, self.order, "the order of the queue")
        left = services.claim(user=self.user, project=self.project, n=1, now=self.now).leases
        _expect([lease.image_id for lease in left], [], "what a finished queue serves")
        self.project.refresh_from_db()
        _expect(self.project.n_labelled, N_IMAGES, "the number of labelled images")

    def _claim(self) -> Lease:
        leases = services.claim(user=self.user, project=self.project, n=1, now=self.now).leases
        if len(leases) != 1:
            raise SelfTestError(f"A claim of one image gave {len(leases)}.")
        return leases[0]

    def _submit(self, lease: Lease, key: str) -> int:
        answer = services.submit(
            user=self.user,
            project=self.project,
            key=key,
            lease_token=str(lease.token),
            class_ids=[self.project.classes.all()[0].pk],
            now=self.now,
        ).answer
        return int(answer["annotation"])


def _expect(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise SelfTestError(f"Wrong: {what} is {found!r} and should be {expected!r}.")


def _create_images(project: Project) -> list[Image]:
    keys = [uuid.uuid4() for _ in range(N_IMAGES)]
    images = Image.objects.bulk_create(
        Image(
            project=project,
            key=key,
            random_key=Image.random_key_of(key),
            sha256=key.hex * 2,
            file_name=f"{key}.jpg",
            file_format="jpg",
            n_bytes=1,
            width=1,
            height=1,
        )
        for key in keys
    )
    Project.objects.filter(pk=project.pk).update(n_images=N_IMAGES)
    return images


def _rank(project: Project, order: Sequence[int]) -> None:
    ranking = Ranking.objects.create(
        project=project,
        number=1,
        kind=Ranking.Kind.HEURISTIC,
        heuristic="margin",
        n_pool=len(order),
        n_candidates=len(order),
        n_positions=len(order),
    )
    RankedImage.objects.bulk_create(
        RankedImage(ranking=ranking, position=position, image_id=pk)
        for position, pk in enumerate(order, 1)
    )
    state = state_of(project)
    state.ranking = ranking
    state.save(update_fields=["ranking"])
