"""Every setting, read from the environment once (see docs/operations.md)."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import csp.constants

from annotator import environment

BASE_DIR = Path(__file__).resolve().parent.parent

# A folder called `queue` without __init__.py leaves the standard library's `queue` alone;
# insert(0) lets a checkout win over an installed copy.
_queue_dir = BASE_DIR / "queue"
if (_queue_dir / "workqueue").is_dir() and str(_queue_dir) not in sys.path:
    sys.path.insert(0, str(_queue_dir))

DATA_DIR = Path(environment.text("DATA_DIR") or BASE_DIR / "var").resolve()
DEBUG = environment.flag("DEBUG")
SECRET_KEY = environment.secret_key()
ALLOWED_HOSTS = environment.items("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = environment.items("CSRF_TRUSTED_ORIGINS")
THREADS = environment.number("THREADS", 2)

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "csp",
    "annotator",
    "annotator.events",
    "annotator.accounts",
    "annotator.api",
    "annotator.jobs",
    "annotator.labeling",
    "annotator.ingest",
    "annotator.exports",
    "annotator.webhooks",
    "workqueue",
    "annotator.operations",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "annotator.middleware.request_id",
    "annotator.middleware.rate_limit",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "csp.middleware.CSPMiddleware",
    "annotator.middleware.ArchivedProjects",
]

ROOT_URLCONF = "annotator.urls"
WSGI_APPLICATION = "annotator.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [folder for folder in [BASE_DIR / "templates"] if folder.is_dir()],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]

# --- Data -------------------------------------------------------------------------------------

DATABASES = {
    "default": environment.database(
        environment.text("DATABASE_URL"),
        data_dir=DATA_DIR,
        is_pooled=environment.flag("DATABASE_POOLED"),
    )
}

BROKER_URL = environment.text("BROKER_URL") or "embedded"
EMBEDDED_BROKER = BROKER_URL == "embedded"

_cache_url = environment.text("CACHE_URL") or ("" if EMBEDDED_BROKER else BROKER_URL)
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": _cache_url}
    if _cache_url
    else {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cache_entry"}
}

MEDIA_ROOT = DATA_DIR / "media"
EMBEDDINGS_ROOT = DATA_DIR / "embeddings"
MODELS_ROOT = DATA_DIR / "models"
BACKBONES_ROOT = DATA_DIR / "backbones"
BACKBONE = environment.text("BACKBONE", "efficientnet_lite0")
UPLOADS_ROOT = DATA_DIR / "uploads"
EXPORTS_ROOT = DATA_DIR / "exports"
EXPORT_DAYS = environment.number("EXPORT_DAYS", 14)
STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
STATICFILES_DIRS = [folder for folder in [BASE_DIR / "static"] if folder.is_dir()]

_bucket = environment.text("S3_BUCKET")
STORAGES: dict[str, dict[str, Any]] = {
    "default": {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": _bucket,
            "endpoint_url": environment.text("S3_ENDPOINT_URL") or None,
            "region_name": environment.text("S3_REGION") or None,
            "default_acl": None,
            "file_overwrite": False,
        },
    }
    if _bucket
    else {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": MEDIA_ROOT, "file_permissions_mode": 0o640},
    },
    "staticfiles": {"BACKEND": "annotator.staticfiles.HashedModules"},
}

# --- Uploads ----------------------------------------------------------------------------------

MAX_IMAGE_BYTES = 100 * 1024**2
MAX_ZIP_BYTES = 20 * 1024**3
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024**2
DATA_UPLOAD_MAX_NUMBER_FILES = 100
FILE_UPLOAD_PERMISSIONS = 0o640

# --- Connections to addresses people give (webhooks, images by address) -------------------------

OUTBOUND_ALLOW = environment.items("OUTBOUND_ALLOW")
OUTBOUND_HTTP = environment.flag("OUTBOUND_HTTP")
OUTBOUND_PORTS = environment.numbers("OUTBOUND_PORTS", "443,80,8443,8080")

# --- Accounts and headers ---------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["annotator.accounts.sessions.Accounts"]
SESSION_ENGINE = "annotator.accounts.sessions"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
SESSION_COOKIE_AGE = 14 * 24 * 3600
SESSION_COOKIE_HTTPONLY = True
HTTPS = environment.flag("HTTPS")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
_images_from = [environment.text("S3_ENDPOINT_URL")] if environment.text("S3_ENDPOINT_URL") else []
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [csp.constants.SELF],
        "script-src": [csp.constants.SELF],
        "style-src": [csp.constants.SELF],
        "img-src": [csp.constants.SELF, "blob:", "data:", *_images_from],
        "connect-src": [csp.constants.SELF],
        "object-src": [csp.constants.NONE],
        "base-uri": [csp.constants.NONE],
        "form-action": [csp.constants.SELF],
        "frame-ancestors": [csp.constants.NONE],
    }
}

# --- API --------------------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "annotator.accounts.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["annotator.accounts.throttling.RequestRate"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["annotator.api.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "annotator.api.schema.ContractSchema",
    "EXCEPTION_HANDLER": "annotator.api.problems.problem_response",
    "UNAUTHENTICATED_USER": None,
    # `format` is a parameter of ours where there is a choice; answers are JSON.
    "URL_FORMAT_OVERRIDE": None,
}

SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.1",
    "TITLE": "Annotator",
    "VERSION": "1",
    "DESCRIPTION": "Everything Annotator does, for programs: the pages use the same routes. "
    "Errors are application/problem+json with a stable code.",
    # Bodies of changes say themselves which fields may be left out.
    "COMPONENT_SPLIT_PATCH": False,
    "POSTPROCESSING_HOOKS": [],
    "ENFORCE_NON_BLANK_FIELDS": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "APPEND_COMPONENTS": {
        "securitySchemes": {
            "token": {
                "type": "http",
                "scheme": "bearer",
                "description": "a personal or service token; its scope is one of read, annotate "
                "and manage, each of which may do what the one before it may",
            },
            "session": {
                "type": "apiKey",
                "in": "cookie",
                "name": "sessionid",
                "description": "a person signed in with the browser; writes need the CSRF token",
            },
        }
    },
}

# Requests a minute of one person or service; 0 is no limit. Labeling as fast as a hand can takes a
# few hundred.
REQUEST_RATES = {
    "api": environment.number("API_RATE", 6000),
    "browser": environment.number("BROWSER_RATE", 12_000),
}
LOGIN_FAILURES = environment.number("LOGIN_FAILURES", 10)
LOGIN_FAILURES_PER_ADDRESS = environment.number("LOGIN_FAILURES_PER_ADDRESS", 100)
PROXIES = environment.number("PROXIES", 0)

# --- Background work --------------------------------------------------------------------------

LEARNING_WORKER = environment.text("WORKER") == "learning"

CELERY_BROKER_URL = "embedded://" if EMBEDDED_BROKER else BROKER_URL
if EMBEDDED_BROKER:
    _broker_dir = DATA_DIR / "broker"
    CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {
        "data_folder_in": str(_broker_dir / "messages"),
        "data_folder_out": str(_broker_dir / "messages"),
        "control_folder": str(_broker_dir / "control"),
        "polling_interval": 0.1,
    }
    CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
else:
    # Fail fast when the broker is down: the Job row stays, the sweeper rings again.
    CELERY_BROKER_TRANSPORT_OPTIONS = {
        "max_retries": 1,
        "interval_start": 0,
        "interval_step": 0,
        "socket_connect_timeout": 0.5,
        "socket_timeout": 5,
    }
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_TASK_ACKS_LATE = True
# A job that hangs is killed; its lease runs out, and after three such ends it is parked.
CELERY_TASK_TIME_LIMIT = environment.number("JOB_TIME_LIMIT", 7200)
# Off on purpose: a task that kills its worker would loop for ever. The Job row's lease and attempt
# count bound it.
CELERY_TASK_REJECT_ON_WORKER_LOST = False
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_DEFAULT_QUEUE = "interactive"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 5
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
if LEARNING_WORKER:
    # torch must never be forked after its first operation: the child would hang.
    CELERY_WORKER_POOL_START_METHOD = "spawn"

QUEUES = ["interactive", "ingest", "webhooks", "train", "embed"]
JOB_LEASE = timedelta(seconds=30)
JOB_RESEND_AFTER = timedelta(seconds=10)
JOB_MAX_ATTEMPTS = 3
SWEEP_EVERY = timedelta(seconds=3)
CELERY_BEAT_SCHEDULE = {
    "sweep": {
        "task": "jobs.sweep",
        "schedule": SWEEP_EVERY,
        "options": {"queue": "interactive", "expires": 3},
    },
    **{
        f"pulse-{queue}": {
            "task": "jobs.pulse",
            "schedule": timedelta(seconds=10),
            "args": [queue],
            "options": {"queue": queue, "expires": 10},
        }
        for queue in QUEUES
    },
    "housekeeping": {
        "task": "workqueue.housekeeping",
        "schedule": timedelta(seconds=30),
        "options": {"queue": "interactive", "expires": 30},
    },
    "webhooks-sweep": {
        "task": "webhooks.sweep",
        "schedule": timedelta(seconds=5),
        "options": {"queue": "webhooks", "expires": 5},
    },
    "webhooks-housekeeping": {
        "task": "webhooks.housekeeping",
        "schedule": timedelta(minutes=1),
        "options": {"queue": "webhooks", "expires": 60},
    },
}
CELERY_BEAT_SCHEDULE_FILENAME = str(DATA_DIR / "beat-schedule")

# Positions a ranking stores; nobody labels more between two rounds, and unranked images follow.
RANKING_POSITIONS = 5000

# --- Logs -------------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": environment.text("LOG_LEVEL", "INFO").upper()},
    "loggers": {
        name: {"level": "WARNING"}
        for name in ("django.server", "onnx_ir", "onnxscript", "torch.onnx")
    }
    # "No hostname was supplied": the embedded broker has none.
    | {"kombu.connection": {"level": "ERROR" if EMBEDDED_BROKER else "WARNING"}},
}
