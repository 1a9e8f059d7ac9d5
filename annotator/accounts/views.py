"""The API of the person's own account, and of the tokens of a project's services."""

from typing import Any

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from annotator.accounts import access, answers, selectors, services
from annotator.accounts.access import human_of, person_of
from annotator.accounts.models import ApiToken, Role, Scope
from annotator.accounts.serializers import ServiceTokenIn, TokenIn
from annotator.api.contract import Operation, page_of_many
from annotator.api.paging import PAGED, page_of
from annotator.api.problems import Problem
from annotator.api.serializers import StrictSerializer
from annotator.api.views import APIView

ROLES_SHOWN = 200


def _body_of(request: Request, serializer: type[StrictSerializer]) -> dict[str, Any]:
    parsed = serializer(data=request.data)
    parsed.is_valid(raise_exception=True)
    return dict(parsed.validated_data)


def _made_with(request: Request) -> ApiToken | None:
    return request.auth if isinstance(request.auth, ApiToken) else None


class MeView(APIView):
    """Who is asking."""

    contract = {"get": Operation(answers.MeOut)}

    def get(self, request: Request) -> Response:
        """Show who is signed in, where they have which role, and what their token may do."""
        user = person_of(request)
        token = _made_with(request)
        roles = selectors.roles_of(user)
        return Response(
            {
                "id": user.pk,
                "username": user.username,
                "name": user.shown_name,
                "is_admin": user.is_superuser,
                "is_service": user.service_of_id is not None,
                "n_projects": access.visible_projects(user).count(),
                "roles": [
                    {"project_id": project_id, "role": role.label.lower()}
                    for project_id, role in roles[:ROLES_SHOWN]
                ],
                "token": _present(token) if token else None,
            }
        )


class TokensView(APIView):
    """The person's API tokens."""

    parameters = PAGED
    secret_fields = ("token",)
    contract = {
        "get": Operation(page_of_many(answers.TokenOut), problems=("forbidden",)),
        "post": Operation(answers.NewTokenOut, status=201, body=TokenIn, problems=("forbidden",)),
    }

    def get(self, request: Request) -> Response:
        """List them without their secrets."""
        return page_of(request, selectors.personal_tokens(human_of(request)), _present)

    def post(self, request: Request) -> Response:
        """Create one; its secret is in the answer and nowhere else."""
        created = services.create_token(
            user=human_of(request),
            now=timezone.now(),
            made_with=_made_with(request),
            **_body_of(request, TokenIn),
        )
        token = ApiToken.objects.get(pk=created.pk)
        return Response({**_present(token), "token": created.secret}, status=201)


class TokenView(APIView):
    """One token."""

    contract = {"delete": Operation(None, status=204, problems=("forbidden",))}

    def delete(self, request: Request, token_id: int) -> Response:
        """Revoke it."""
        token = ApiToken.objects.filter(pk=token_id, user=human_of(request)).first()
        if token is None:
            raise Problem(404, "not-found", "You have no such token.")
        services.revoke_token(token=token, now=timezone.now(), actor=person_of(request))
        return Response(status=204)


class ServiceTokensView(APIView):
    """The tokens of a project's services."""

    parameters = PAGED
    secret_fields = ("token",)
    contract = {
        "get": Operation(page_of_many(answers.ServiceTokenOut), role=Role.LEAD),
        "post": Operation(
            answers.NewServiceTokenOut, status=201, body=ServiceTokenIn, role=Role.LEAD
        ),
    }

    def get(self, request: Request, project_id: int) -> Response:
        """List them without their secrets."""
        access.project_for(person_of(request), project_id, Role.LEAD)
        return page_of(request, selectors.service_tokens(project_id), _present_of_service)

    def post(self, request: Request, project_id: int) -> Response:
        """Create one; its secret is in the answer and nowhere else."""
        access.project_for(person_of(request), project_id, Role.LEAD)
        created = services.create_service_token(
            project_id=project_id,
            actor=person_of(request),
            now=timezone.now(),
            made_with=_made_with(request),
            **_body_of(request, ServiceTokenIn),
        )
        token = selectors.service_tokens(project_id).get(pk=created.pk)
        return Response({**_present_of_service(token), "token": created.secret}, status=201)


class ServiceTokenView(APIView):
    """One token of a service."""

    contract = {"delete": Operation(None, status=204, role=Role.LEAD)}

    def delete(self, request: Request, project_id: int, token_id: int) -> Response:
        """Revoke it; a service without any leaves the project."""
        token = access.object_for(
            person_of(request),
            ApiToken.objects.select_related("user").filter(user__service_of=project_id),
            project_path="user__service_of",
            at_least=Role.LEAD,
            pk=token_id,
        )
        services.revoke_token(token=token, now=timezone.now(), actor=person_of(request))
        return Response(status=204)


def _present(token: ApiToken) -> dict[str, object]:
    return {
        "id": token.pk,
        "name": token.name,
        "scope": Scope(token.scope).label.lower(),
        "prefix": token.prefix,
        "created_at": token.created_at.isoformat(),
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
        "last_used_at": token.last_used_at.isoformat() if token.last_used_at else None,
    }


def _present_of_service(token: ApiToken) -> dict[str, object]:
    # A service has one membership at most, and those of all are fetched at once.
    roles = [Role(entry.role).label.lower() for entry in token.user.memberships.all()]
    return {
        **_present(token),
        "user_id": token.user_id,
        "role": roles[0] if roles else None,
        "created_by": token.created_by.shown_name if token.created_by else None,
    }
