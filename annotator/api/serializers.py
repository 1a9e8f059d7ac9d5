"""The base of every request body: unknown fields are refused."""

from typing import Any

from rest_framework import serializers


class StrictSerializer(serializers.Serializer[Any]):
    """A request body in which a field nobody knows is an error, not a silent typo."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the validated values.

        Raises:
            ValidationError: a field is unknown or not valid.
        """
        if isinstance(data, dict):
            unknown = sorted(set(data) - set(self.fields))
            if unknown:
                raise serializers.ValidationError(
                    {
                        name: serializers.ErrorDetail("This field is not known.", "unknown-field")
                        for name in unknown
                    }
                )
        return super().to_internal_value(data)
