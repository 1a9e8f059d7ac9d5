"""The base of every request body: unknown fields are refused."""

import json
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
            wrong = {
                name: serializers.ErrorDetail(f"Not {_json(data[name])}.", "invalid")
                for name, field in self.fields.items()
                if name in data and _is_other_type(field, data[name])
            }
            if wrong:
                raise serializers.ValidationError(wrong)
            if unknown:
                raise serializers.ValidationError(
                    {
                        name: serializers.ErrorDetail("This field is not known.", "unknown-field")
                        for name in unknown
                    }
                )
        return super().to_internal_value(data)


def _is_other_type(field: serializers.Field[Any, Any, Any, Any], value: Any) -> bool:
    # DRF takes "1" and "yes" for true, and true for 1.0.
    if isinstance(field, serializers.BooleanField):
        return not isinstance(value, bool | None)
    return isinstance(field, serializers.FloatField) and isinstance(value, bool)


def _json(value: Any) -> str:
    return json.dumps(value)[:40]
