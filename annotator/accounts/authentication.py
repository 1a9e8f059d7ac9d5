"""Bearer tokens for the API."""

from typing import Any

from django.utils import timezone
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from annotator.accounts import services


class TokenAuthentication(BaseAuthentication):
    """Signs a program in by ``Authorization: Bearer <token>``."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """Return the token's user, or None when there is no token.

        Raises:
            AuthenticationFailed: the token is unknown, revoked or has expired.
        """
        scheme, _, secret = get_authorization_header(request).decode("latin-1").partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = services.find_token(secret=secret.strip(), now=timezone.now())
        if token is None:
            raise AuthenticationFailed("The token is unknown, revoked or has expired.")
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge, which also makes a missing login a 401 instead of a 403."""
        return "Bearer"
