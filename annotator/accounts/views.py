"""The API of the person's own account."""

from datetime import timedelta

from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from annotator.accounts import services
from annotator.accounts.access import person_of
from annotator.accounts.models import ApiToken
from annotator.api.problems import Problem
from annotator.api.serializers import StrictSerializer


class TokenIn(StrictSerializer):
    """A token to create."""

    name = serializers.CharField(max_length=100)
    days = serializers.IntegerField(min_value=1, max_value=3650, required=False, allow_null=True)


class MeView(APIView):
    """Who is asking."""

    def get(self, request: Request) -> Response:
        """Show the signed-in person."""
        user = person_of(request)
        return Response(
            {
                "id": user.pk,
                "username": user.username,
                "name": user.shown_name,
                "is_admin": user.is_superuser,
            }
        )


class TokensView(APIView):
    """The person's API tokens."""

    def get(self, request: Request) -> Response:
        """List them without their secrets."""
        tokens = ApiToken.objects.filter(user=person_of(request), revoked_at=None)
        return Response({"results": [_present(token) for token in tokens]})

    def post(self, request: Request) -> Response:
        """Create one; its secret is in the answer and nowhere else."""
        parsed = TokenIn(data=request.data)
        parsed.is_valid(raise_exception=True)
        days = parsed.validated_data.get("days")
        created = services.create_token(
            user=person_of(request),
            name=parsed.validated_data["name"],
            now=timezone.now(),
            lifetime=timedelta(days=days) if days else None,
        )
        token = ApiToken.objects.get(pk=created.pk)
        return Response({**_present(token), "token": created.secret}, status=201)


class TokenView(APIView):
    """One token."""

    def delete(self, request: Request, token_id: int) -> Response:
        """Revoke it."""
        token = ApiToken.objects.filter(pk=token_id, user=person_of(request)).first()
        if token is None:
            raise Problem(404, "not-found", "You have no such token.")
        services.revoke_token(token=token, now=timezone.now(), actor=person_of(request))
        return Response(status=204)


def _present(token: ApiToken) -> dict[str, object]:
    return {
        "id": token.pk,
        "name": token.name,
        "prefix": token.prefix,
        "created_at": token.created_at.isoformat(),
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
        "last_used_at": token.last_used_at.isoformat() if token.last_used_at else None,
    }
