"""The API of what people are served: images, and how long they hold them."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from annotator.accounts import access
from annotator.accounts.access import person_of
from annotator.accounts.models import Role, Scope
from annotator.api.contract import Operation, page_of_many
from annotator.api.paging import PAGED, page_of
from annotator.api.problems import Problem
from annotator.api.views import APIView, Nothing
from annotator.clock import database_now
from annotator.labeling.views import body_of
from workqueue import answers, presenters, selectors, serializers, services


class ClaimView(APIView):
    """Getting images to label."""

    write_scope = Scope.ANNOTATE
    contract = {"post": Operation(answers.ClaimOut, body=serializers.ClaimIn, role=Role.ANNOTATOR)}

    def post(self, request: Request, project_id: int) -> Response:
        """Lease the best free images."""
        project = access.project_for(person_of(request), project_id)
        body = body_of(request, serializers.ClaimIn)
        now = database_now()
        claimed = services.claim(
            user=person_of(request),
            project=project,
            n=body["n"],
            client=body["client"],
            fresh=body["fresh"],
            keep=[str(token) for token in body["keep"]],
            now=now,
        )
        empty = None if claimed.leases else selectors.why_empty(project, person_of(request), now)
        return Response(presenters.present_claim(project, claimed.leases, empty, now))


class LeasesView(APIView):
    """Who holds what."""

    parameters = PAGED
    contract = {"get": Operation(page_of_many(answers.HoldingOut), role=Role.LEAD)}

    def get(self, request: Request, project_id: int) -> Response:
        """List the live leases with who holds them since when and until when, for a lead."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        leases = selectors.live_leases(project, database_now())
        return page_of(request, leases, presenters.present_holding)


class PersonReleaseView(APIView):
    """Taking back what one person holds."""

    contract = {"post": Operation(answers.CountOut, body=serializers.ReleaseIn, role=Role.LEAD)}

    def post(self, request: Request, project_id: int) -> Response:
        """End all leases of the person; their images are served again at their old ranks."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        body = body_of(request, serializers.ReleaseIn)
        n = services.release_person(project=project, user_id=body["user"], actor=person_of(request))
        return Response({"n": n})


class LeaseShowView(APIView):
    """One lease of the person."""

    contract = {
        "get": Operation(answers.OwnLeaseOut, role=Role.ANNOTATOR, problems=("lease-unknown",)),
    }

    def get(self, request: Request, project_id: int, token: str) -> Response:
        """Show its image, why it was served, until when it is held, or what became of it."""
        project = access.project_for(person_of(request), project_id)
        lease = selectors.own_lease(project, person_of(request), str(token))
        if lease is None:
            raise Problem(404, "lease-unknown", "There is no such lease of yours in this project.")
        return Response(presenters.present_own_lease(lease, database_now()))


class LeaseView(APIView):
    """One lease of the person."""

    write_scope = Scope.ANNOTATE


class HeartbeatView(LeaseView):
    """Holding an image for longer."""

    contract = {
        "post": Operation(
            answers.HeartbeatOut, role=Role.ANNOTATOR, problems=("lease-unknown", "lease-lost")
        )
    }

    def post(self, request: Request, project_id: int, token: UUID) -> Response:
        """Prolong the lease, never beyond the longest hold."""
        project = access.project_for(person_of(request), project_id)
        body_of(request, Nothing)
        with _lease_problems():
            until = services.heartbeat(
                user=person_of(request),
                project=project,
                lease_token=str(token),
                now=database_now(),
            )
        return Response({"expires_at": presenters.iso(until)})


class ReleaseView(LeaseView):
    """Giving an image back."""

    contract = {
        "post": Operation(
            None, status=204, role=Role.ANNOTATOR, problems=("lease-unknown", "lease-lost")
        )
    }

    def post(self, request: Request, project_id: int, token: UUID) -> Response:
        """End the lease; the image is served again at its old rank."""
        project = access.project_for(person_of(request), project_id)
        body_of(request, Nothing)
        with _lease_problems():
            services.release(user=person_of(request), project=project, lease_token=str(token))
        return Response(status=204)


class SkipView(LeaseView):
    """Passing an image on."""

    contract = {
        "post": Operation(
            answers.SkippedOut,
            body=serializers.SkipIn,
            role=Role.ANNOTATOR,
            problems=("lease-unknown", "lease-lost"),
        )
    }

    def post(self, request: Request, project_id: int, token: UUID) -> Response:
        """End the lease and serve the image to this person no more, until they unskip it."""
        project = access.project_for(person_of(request), project_id)
        with _lease_problems():
            body = body_of(request, serializers.SkipIn)
            services.skip(user=person_of(request), project=project, lease_token=str(token), **body)
        return Response({"status": presenters.present_status(project, database_now())})


@contextmanager
def _lease_problems() -> Iterator[None]:
    """Answer what the services say of a lease.

    Raises:
        Problem: 404, it is none of the person's; 409, it is over.
    """
    try:
        yield
    except services.LeaseUnknownError as error:
        raise Problem(404, "lease-unknown", str(error)) from error
    except services.LeaseLostError as error:
        raise Problem(409, "lease-lost", str(error)) from error


class UnskipView(APIView):
    """Taking skipped images back."""

    write_scope = Scope.ANNOTATE
    contract = {
        "post": Operation(
            answers.UnskippedOut,
            body=serializers.UnskipIn,
            role=Role.ANNOTATOR,
            problems=("lease-unknown", "unskip-refused"),
        ),
    }

    def post(self, request: Request, project_id: int) -> Response:
        """Bring skipped images back: that of one lease, leased again, or all into the queue."""
        project = access.project_for(person_of(request), project_id)
        body = body_of(request, serializers.UnskipIn)
        if body["lease"] is None:
            return Response({"n": services.unskip(user=person_of(request), project=project)})
        try:
            lease = services.unskip_one(
                user=person_of(request),
                project=project,
                lease_token=str(body["lease"]),
                client=body["client"],
                now=database_now(),
            )
        except services.LeaseUnknownError as error:
            raise Problem(404, "lease-unknown", str(error)) from error
        except services.UnskipRefusedError as error:
            raise Problem(409, "unskip-refused", str(error)) from error
        lease.project = project
        return Response(
            {
                "n": 1,
                "lease": presenters.present_lease(lease, presenters.classes_of(project)),
                "status": presenters.present_status(project, database_now()),
            }
        )


class StatusView(APIView):
    """The state of the queue, for polling."""

    contract = {
        "get": Operation(
            answers.PolledStatusOut,
            also={304: None},
            role=Role.ANNOTATOR,
            sends=("If-None-Match",),
            returns=("ETag",),
        ),
    }

    def get(self, request: Request, project_id: int) -> Response:
        """Return the state, or 304 when nothing changed since the client's ETag."""
        project = access.project_for(person_of(request), project_id)
        now = database_now()
        status = {
            **presenters.present_status(project, now),
            "n_held_by_you": selectors.n_held(project, person_of(request), now),
        }
        etag = f'"{hashlib.sha256(json.dumps(status).encode()).hexdigest()[:32]}"'
        if request.headers.get("If-None-Match") == etag:
            return Response(status=304, headers={"ETag": etag})
        return Response(status, headers={"ETag": etag, "Cache-Control": "private, no-cache"})
