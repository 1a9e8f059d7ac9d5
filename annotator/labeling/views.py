"""The API of projects, classes, images, people and the event feed."""

from typing import Any

from django.urls import reverse
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from annotator.accounts import access
from annotator.accounts import services as accounts
from annotator.accounts.access import person_of
from annotator.accounts.models import Invitation, Membership, Role
from annotator.api.conditions import if_match
from annotator.api.contract import Operation, page_of_many
from annotator.api.paging import PAGED, InTheirOrder, limit_of, page_of
from annotator.api.problems import Problem
from annotator.api.serializers import StrictSerializer
from annotator.api.views import APIView
from annotator.events.selectors import feed_of
from annotator.labeling import answers, restoring, serializers, services
from annotator.labeling.models import Image, LabelClass
from annotator.labeling.presenters import (
    present_class,
    present_deleted_class,
    present_project,
)
from annotator.labeling.selectors import deleted_classes

EVENTS_AT_ONCE = 200


def body_of(request: Request, serializer: type[StrictSerializer]) -> dict[str, Any]:
    """Return the validated body of a request."""
    parsed = serializer(data=request.data)
    parsed.is_valid(raise_exception=True)
    return dict(parsed.validated_data)


def query_of(request: Request, serializer: type[StrictSerializer]) -> dict[str, Any]:
    """Return the validated query parameters of a request."""
    parsed = serializer(data=dict(request.query_params.items()))
    parsed.is_valid(raise_exception=True)
    return dict(parsed.validated_data)


class ProjectsView(APIView):
    """The person's projects."""

    parameters = PAGED
    contract = {
        "get": Operation(page_of_many(answers.ProjectOut)),
        "post": Operation(
            answers.ProjectOut,
            status=201,
            body=serializers.ProjectIn,
            problems=("forbidden", "invalid-classes"),
        ),
    }

    def get(self, request: Request) -> Response:
        """List the person's projects, newest first."""
        person = person_of(request)
        projects = access.visible_projects(person).prefetch_related("classes")
        return page_of(
            request,
            projects,
            lambda entry: present_project(entry, access.role_in(person, entry.pk)),
        )

    def post(self, request: Request) -> Response:
        """Create a project; its creator is its lead."""
        body = body_of(request, serializers.ProjectIn)
        try:
            project = services.create_project(actor=access.human_of(request), **body)
        except services.InvalidClassesError as error:
            raise Problem(422, "invalid-classes", str(error)) from error
        return Response(present_project(project, Role.LEAD), status=201)


class ArchivedProjectsView(APIView):
    """The archived projects a person can bring back."""

    parameters = PAGED
    contract = {"get": Operation(page_of_many(answers.ArchivedProjectOut))}

    def get(self, request: Request) -> Response:
        """List those the person leads, the newest project first."""
        archived = access.archived_projects(person_of(request)).prefetch_related("classes")
        return page_of(request, archived, _archived)


def _archived(project: Any) -> dict[str, Any]:
    return {
        **present_project(project, Role.LEAD),
        "archived_at": project.deleted_at.isoformat(),
    }


class ProjectView(APIView):
    """One project."""

    contract = {
        "get": Operation(answers.ProjectOut, role=Role.ANNOTATOR, returns=("ETag",)),
        "patch": Operation(
            answers.ProjectOut,
            body=serializers.ProjectPatch,
            role=Role.LEAD,
            sends=("If-Match",),
            returns=("ETag",),
        ),
        "delete": Operation(None, status=204, role=Role.LEAD),
    }

    def get(self, request: Request, project_id: int) -> Response:
        """Show the project."""
        return _project_answer(access.project_for(person_of(request), project_id))

    def patch(self, request: Request, project_id: int) -> Response:
        """Change its name or instructions."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        changes = body_of(request, serializers.ProjectPatch)
        try:
            services.update_project(
                project=project,
                actor=person_of(request),
                changes=changes,
                version=if_match(request),
            )
        except services.StaleProjectError as error:
            raise Problem(
                412,
                "version-mismatch",
                f"{error} Nothing was saved; look at what is there now, then save again.",
                current={"name": error.current.name, "instructions": error.current.instructions},
                version=services.version_of(error.current),
            ) from error
        return _project_answer(project)

    def delete(self, request: Request, project_id: int) -> Response:
        """Archive it: hidden from everybody until a lead brings it back."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        services.delete_project(project=project, actor=person_of(request), now=timezone.now())
        return Response(status=204)


def _project_answer(project: Any) -> Response:
    return Response(
        present_project(project, project.access_role),
        headers={"ETag": f'"{services.version_of(project)}"'},
    )


class ProjectRestoreView(APIView):
    """Bringing an archived project back."""

    without_body = ("post",)
    contract = {"post": Operation(answers.RestoredProjectOut, role=Role.LEAD)}

    def post(self, request: Request, project_id: int) -> Response:
        """Show it to its members again."""
        project = access.archived_project_for(person_of(request), project_id)
        n_recalled = restoring.restore_project(project=project, actor=person_of(request))
        project.refresh_from_db()
        shown = present_project(project, project.access_role)
        return Response({**shown, "n_labels_recalled": n_recalled})


class ClassesView(APIView):
    """The label set of a project."""

    parameters = PAGED
    contract = {
        "get": Operation(page_of_many(answers.ClassOut), role=Role.ANNOTATOR),
        "post": Operation(
            answers.ClassOut,
            status=201,
            body=serializers.ClassIn,
            role=Role.LEAD,
            problems=("class-exists",),
        ),
    }

    def get(self, request: Request, project_id: int) -> Response:
        """List the classes in their order."""
        project = access.project_for(person_of(request), project_id)
        living = project.classes.filter(deleted_at=None)
        return page_of(request, living, present_class, InTheirOrder())

    def post(self, request: Request, project_id: int) -> Response:
        """Add a class."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        spec = services.ClassSpec(**body_of(request, serializers.ClassIn))
        try:
            added = services.add_class(project=project, actor=person_of(request), spec=spec)
        except services.InvalidClassesError as error:
            raise Problem(409, "class-exists", str(error)) from error
        return Response(present_class(added), status=201)


class ClassView(APIView):
    """One class."""

    contract = {
        "patch": Operation(
            answers.ClassOut,
            body=serializers.ClassPatch,
            role=Role.LEAD,
            problems=("class-exists",),
        ),
        "delete": Operation(answers.ClassDeletedOut, role=Role.LEAD),
    }

    def patch(self, request: Request, project_id: int, class_id: int) -> Response:
        """Rename it or give it another colour, key or place."""
        found = _class(request, project_id, class_id)
        changes = body_of(request, serializers.ClassPatch)
        try:
            services.update_class(label_class=found, actor=person_of(request), changes=changes)
        except services.InvalidClassesError as error:
            raise Problem(409, "class-exists", str(error)) from error
        return Response(present_class(found))

    def delete(self, request: Request, project_id: int, class_id: int) -> Response:
        """Hide it; images that have no other class go back to the queue."""
        found = _class(request, project_id, class_id)
        reopened = services.delete_class(
            label_class=found, actor=person_of(request), now=timezone.now()
        )
        return Response({"n_images_reopened": reopened, "in_background": reopened is None})


class DeletedClassesView(APIView):
    """The classes that were deleted."""

    parameters = PAGED
    contract = {"get": Operation(page_of_many(answers.DeletedClassOut), role=Role.LEAD)}

    def get(self, request: Request, project_id: int) -> Response:
        """List them, the newest class first."""
        project = access.project_for(person_of(request), project_id, Role.LEAD)
        return page_of(request, deleted_classes(project), present_deleted_class)


class ClassRestoreView(APIView):
    """Bringing a deleted class back."""

    without_body = ("post",)
    contract = {
        "post": Operation(answers.RestoredClassOut, role=Role.LEAD, problems=("class-exists",)),
    }

    def post(self, request: Request, project_id: int, class_id: int) -> Response:
        """Offer it again; its labels count again where nobody labelled the image since."""
        found = _class(request, project_id, class_id, is_deleted=True)
        try:
            recalled = restoring.restore_class(label_class=found, actor=person_of(request))
        except services.InvalidClassesError as error:
            raise Problem(409, "class-exists", str(error)) from error
        return Response(
            {
                **present_class(found),
                "n_labels_recalled": recalled,
                "in_background": recalled is None,
            }
        )


def _class(
    request: Request, project_id: int, class_id: int, *, is_deleted: bool = False
) -> LabelClass:
    return access.object_for(
        person_of(request),
        LabelClass.objects.filter(project=project_id, deleted_at__isnull=not is_deleted),
        at_least=Role.LEAD,
        pk=class_id,
    )


class ImageDeleteView(APIView):
    """Taking an image out of a project."""

    contract = {"delete": Operation(None, status=204, role=Role.LEAD)}

    def delete(self, request: Request, project_id: int, image_id: int) -> Response:
        """Take it out of the project; its labels stay in the history."""
        image = access.object_for(
            person_of(request),
            Image.objects.filter(project=project_id, deleted_at=None),
            at_least=Role.LEAD,
            pk=image_id,
        )
        services.delete_image(image=image, actor=person_of(request), now=timezone.now())
        return Response(status=204)


class ImageRestoreView(APIView):
    """Bringing a deleted image back."""

    without_body = ("post",)
    contract = {
        "post": Operation(answers.RestoredImageOut, role=Role.LEAD, problems=("image-exists",)),
    }

    def post(self, request: Request, project_id: int, image_id: int) -> Response:
        """Put it back into the project with its labels."""
        image = access.object_for(
            person_of(request),
            Image.objects.filter(project=project_id).exclude(deleted_at=None),
            at_least=Role.LEAD,
            pk=image_id,
        )
        try:
            recalled = restoring.restore_image(image=image, actor=person_of(request))
        except restoring.ImageExistsError as error:
            raise Problem(409, "image-exists", str(error)) from error
        return Response({"id": image.pk, "n_labels_recalled": recalled})


class MembersView(APIView):
    """Who is in the project."""

    parameters = PAGED
    contract = {"get": Operation(page_of_many(answers.MemberOut), role=Role.REVIEWER)}

    def get(self, request: Request, project_id: int) -> Response:
        """List the members with their roles."""
        access.project_for(person_of(request), project_id, Role.REVIEWER)
        members = Membership.objects.filter(project=project_id).select_related("user")
        return page_of(request, members, _member)


class MemberView(APIView):
    """One member."""

    contract = {
        "patch": Operation(
            answers.MemberOut, body=serializers.MemberPatch, role=Role.LEAD, problems=("last-lead",)
        ),
        "delete": Operation(None, status=204, role=Role.LEAD, problems=("last-lead",)),
    }

    def patch(self, request: Request, project_id: int, user_id: int) -> Response:
        """Give them another role."""
        member = _membership(request, project_id, user_id)
        role = body_of(request, serializers.MemberPatch)["role"]
        try:
            changed = accounts.set_role(
                project_id=project_id, user=member.user, role=role, actor=person_of(request)
            )
        except accounts.LastLeadError as error:
            raise Problem(409, "last-lead", str(error)) from error
        return Response(_member(changed))

    def delete(self, request: Request, project_id: int, user_id: int) -> Response:
        """Take them out; their labels stay."""
        member = _membership(request, project_id, user_id)
        try:
            accounts.remove_member(
                project_id=project_id, user=member.user, actor=person_of(request)
            )
        except accounts.LastLeadError as error:
            raise Problem(409, "last-lead", str(error)) from error
        return Response(status=204)


def _membership(request: Request, project_id: int, user_id: int) -> Membership:
    return access.object_for(
        person_of(request),
        Membership.objects.filter(project=project_id).select_related("user"),
        at_least=Role.LEAD,
        user=user_id,
    )


def _member(membership: Membership) -> dict[str, Any]:
    return {
        "user_id": membership.user_id,
        "username": membership.user.username,
        "name": membership.user.shown_name,
        "is_service": membership.user.service_of_id is not None,
        "role": Role(membership.role).label.lower(),
        "since": membership.created_at.isoformat(),
    }


class InvitationsView(APIView):
    """The open invitations of a project."""

    parameters = PAGED
    secret_fields = ("url",)
    contract = {
        "get": Operation(page_of_many(answers.InvitationOut), role=Role.LEAD),
        "post": Operation(
            answers.NewInvitationOut, status=201, body=serializers.InvitationIn, role=Role.LEAD
        ),
    }

    def get(self, request: Request, project_id: int) -> Response:
        """List those that can still be used."""
        access.project_for(person_of(request), project_id, Role.LEAD)
        living = Invitation.objects.filter(
            project=project_id, revoked_at=None, uses_left__gt=0, expires_at__gt=timezone.now()
        )
        return page_of(request, living, _invitation)

    def post(self, request: Request, project_id: int) -> Response:
        """Create one; its link is in the answer and nowhere else."""
        access.project_for(person_of(request), project_id, Role.LEAD)
        created = accounts.invite(
            project_id=project_id,
            actor=person_of(request),
            now=timezone.now(),
            **body_of(request, serializers.InvitationIn),
        )
        invitation = Invitation.objects.get(pk=created.pk)
        url = request.build_absolute_uri(reverse("invitation", args=[created.secret]))
        return Response({**_invitation(invitation), "url": url}, status=201)


class InvitationView(APIView):
    """One invitation."""

    contract = {"delete": Operation(None, status=204, role=Role.LEAD)}

    def delete(self, request: Request, project_id: int, invitation_id: int) -> Response:
        """Make its link useless."""
        invitation = access.object_for(
            person_of(request),
            Invitation.objects.filter(project=project_id),
            at_least=Role.LEAD,
            pk=invitation_id,
        )
        accounts.revoke_invitation(
            invitation=invitation, actor=person_of(request), now=timezone.now()
        )
        return Response(status=204)


def _invitation(invitation: Invitation) -> dict[str, Any]:
    return {
        "id": invitation.pk,
        "role": Role(invitation.role).label.lower(),
        "note": invitation.note,
        "uses_left": invitation.uses_left,
        "expires_at": invitation.expires_at.isoformat(),
    }


class EventsView(APIView):
    """The feed of everything that happened in a project."""

    parameters = ("after", "limit")
    contract = {"get": Operation(answers.EventsOut, role=Role.REVIEWER)}

    def get(self, request: Request, project_id: int) -> Response:
        """Return the events after an id, oldest first."""
        access.project_for(person_of(request), project_id, Role.REVIEWER)
        after = _whole_number(request.query_params.get("after", "0"))
        limit = limit_of(request, EVENTS_AT_ONCE)
        found = feed_of(project_id, after=after).select_related("actor")
        events = [
            {
                "id": event.pk,
                "kind": event.kind,
                "actor": event.actor_id,
                "actor_name": event.actor.shown_name if event.actor else None,
                "payload": event.payload,
                "at": event.at.isoformat(),
            }
            for event in found[:limit]
        ]
        return Response({"results": events, "after": events[-1]["id"] if events else after})


def _whole_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Problem(
            400,
            "validation-error",
            "“after” is the id of an event.",
            [{"pointer": "/after", "code": "invalid", "message": "Not a whole number."}],
        )
    return int(text)
