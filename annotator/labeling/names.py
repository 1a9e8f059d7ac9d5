"""When two names are the same to those who read them."""

import unicodedata


def name_key(name: str) -> str:
    """Return what is equal for names that look alike: in case, width, or how accents are written.

    Not asked of the database: SQLite knows upper and lower case of ASCII only.
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).strip()
