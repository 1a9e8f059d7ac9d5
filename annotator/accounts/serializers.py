"""Request bodies of tokens."""

from datetime import timedelta
from typing import Any

from rest_framework import serializers

from annotator.accounts.models import Role, Scope
from annotator.api.serializers import NameField, StrictSerializer


class ChoiceByName(serializers.ChoiceField):
    """A value of an enumeration by its label in lower case."""

    def __init__(self, choices: type[Role] | type[Scope], **kwargs: Any) -> None:
        self.by_name = {entry.label.lower(): entry for entry in choices}
        super().__init__(choices=[(name, name) for name in self.by_name], **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        """Return the value for its name."""
        return self.by_name[super().to_internal_value(data)]

    def to_representation(self, value: Any) -> str:
        """Return the name, of a default for example."""
        return str(value.label).lower()


class TokenIn(StrictSerializer):
    """A token to create."""

    name = NameField(max_length=100, help_text="what it is for")
    scope = ChoiceByName(Scope, default=Scope.READ, help_text="what it may be used for")
    days = serializers.IntegerField(
        min_value=1,
        max_value=3650,
        required=False,
        allow_null=True,
        default=None,
        help_text="days until it ends; null: never",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Return the fields as the services take them."""
        days = attrs.pop("days")
        return {**attrs, "lifetime": timedelta(days=days) if days else None}


class ServiceTokenIn(TokenIn):
    """A service's token to create; the role follows from the scope when it is left out."""

    role = ChoiceByName(
        Role,
        required=False,
        default=None,
        allow_null=True,
        help_text="the role of the service; left out, it follows from the scope",
    )
