"""A throw-away installation for benchmarks: a data folder, a database and settings."""

import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any


def set_up() -> Path:
    """Make Django work on an empty SQLite database in a temporary folder; return the folder."""
    folder = Path(tempfile.mkdtemp(prefix="annotator-benchmark-"))
    os.environ["ANNOTATOR_DATA_DIR"] = str(folder)
    os.environ["ANNOTATOR_SECRET_KEY"] = secrets.token_urlsafe(64)
    os.environ["ANNOTATOR_LOG_LEVEL"] = "ERROR"
    os.environ["DJANGO_SETTINGS_MODULE"] = "annotator.settings"
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    call_command("createcachetable")
    return folder


def finish(result: dict[str, Any], *, as_json: bool) -> None:
    """Print the result as the last line, if asked for."""
    if as_json:
        print(json.dumps(result))
