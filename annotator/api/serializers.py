"""The base of every request body: unknown fields are refused."""

import json
import unicodedata
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


# Control and format characters, and what is no character; two of them join letters and emoji.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_JOINERS = {"\u200c", "\u200d"}


class NameField(serializers.CharField):
    """One line that people read: nothing in it is invisible or turns the rest round."""

    def to_internal_value(self, data: Any) -> str:
        """Return the text, with accents written one way.

        Raises:
            ValidationError: a character in it cannot be seen.
        """
        text = unicodedata.normalize("NFC", super().to_internal_value(data))
        for character in text:
            if unicodedata.category(character) in _HIDDEN and character not in _JOINERS:
                raise serializers.ValidationError(
                    f"The character U+{ord(character):04X} cannot be seen. Leave it out.", "invalid"
                )
        return text


def _is_other_type(field: serializers.Field[Any, Any, Any, Any], value: Any) -> bool:
    # DRF takes "1" and "yes" for true, and true for 1.0.
    if isinstance(field, serializers.BooleanField):
        return not isinstance(value, bool | None)
    return isinstance(field, serializers.FloatField) and isinstance(value, bool)


def _json(value: Any) -> str:
    return json.dumps(value)[:40]
