"""The shapes of what the API answers about accounts and tokens."""

from annotator.accounts.models import Scope
from annotator.api import contract as c
from annotator.api.contract import Answer

SCOPES = [scope.label.lower() for scope in Scope]


class TokenOut(Answer):
    """A token without its secret."""

    id = c.whole("the id, with which it is revoked")
    name = c.text("what it is for")
    scope = c.one_of(SCOPES, "what it may be used for")
    prefix = c.text("the first characters of the secret, to tell tokens apart")
    created_at = c.moment("when it was made")
    expires_at = c.moment("when it ends; null: never", null=True)
    last_used_at = c.moment("when it was last used, exact to a minute", null=True)


class NewTokenOut(TokenOut):
    """A token that was just made."""

    token = c.text("the secret, shown this once; null in a repeated answer", null=True)


class ServiceTokenOut(TokenOut):
    """A token of a service, without its secret."""

    user_id = c.whole("the user of the service, as in the list of members")
    role = c.role("the role of the service in the project", null=True)
    created_by = c.text("the lead who made it", null=True)


class NewServiceTokenOut(ServiceTokenOut):
    """A token of a service that was just made."""

    token = c.text("the secret, shown this once; null in a repeated answer", null=True)


class RoleOut(Answer):
    """A role in a project."""

    project_id = c.whole("the project")
    role = c.role("the role there")


class MeOut(Answer):
    """Who is asking."""

    id = c.whole("the id of the user")
    username = c.text("the name to sign in with")
    name = c.text("the name others see")
    is_admin = c.yes_no("administers the site, and is a lead everywhere")
    is_service = c.yes_no("acts by a service token, in one project")
    n_projects = c.whole("projects this user can see")
    roles = RoleOut(many=True, help_text="the roles in up to 200 projects, newest first")
    token = TokenOut(allow_null=True, help_text="the token that was used; null in the browser")
