"""What tests change: a throw-away data folder, a fast hasher, jobs that run when told to."""

import os
import secrets
import tempfile
from datetime import timedelta

os.environ.setdefault("ANNOTATOR_SECRET_KEY", secrets.token_urlsafe(64))
os.environ["ANNOTATOR_DATA_DIR"] = tempfile.mkdtemp(prefix="annotator-tests-")
os.environ["ANNOTATOR_DATABASE_URL"] = os.environ.get("ANNOTATOR_TEST_POSTGRES_URL", "")

from annotator.settings import *  # noqa: F403
from annotator.settings import DATA_DIR, DATABASES, MIDDLEWARE, STORAGES

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = STORAGES | {
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
}
MIDDLEWARE = [name for name in MIDDLEWARE if "whitenoise" not in name]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
CELERY_BROKER_URL = "memory://"
# A job's heartbeat has a connection of its own, which does not see the transaction a test runs in:
# it would take the job for lost.
JOB_LEASE = timedelta(hours=1)
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A real file: the in-memory database of tests locks in ways a file does not.
    DATABASES["default"]["TEST"] = {"NAME": DATA_DIR / "test.sqlite3"}
    DATABASES["default"]["OPTIONS"]["init_command"] += "PRAGMA synchronous=OFF;"
