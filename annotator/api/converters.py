"""Numbers in addresses: what no database can hold is no such page, not an error."""

from django.urls.converters import IntConverter

LARGEST_ID = 2**63 - 1


class IdConverter(IntConverter):
    """A primary key, 1 to 2**63 - 1, written in one way only: each thing has one address."""

    regex = "[1-9][0-9]{0,18}"

    def to_python(self, value: str) -> int:
        """Return the number.

        Raises:
            ValueError: it is too large; the address then matches nothing and is a 404.
        """
        number = int(value)
        if number > LARGEST_ID:
            raise ValueError("too large for an id")
        return number
