"""The Celery application. Nothing imported here may import torch (see docs/architecture.md)."""

import os
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import task_postrun, task_prerun
from django.db import close_old_connections
from kombu.transport import TRANSPORT_ALIASES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotator.settings")

TRANSPORT_ALIASES["embedded"] = "annotator.broker:Transport"

app = Celery("annotator")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@task_prerun.connect
@task_postrun.connect
def _close_old_connections(**_: Any) -> None:
    # Celery's own does it in forked processes only. A spawned one would go on for ever with the
    # connection it had when the database server was started anew.
    close_old_connections()


@app.on_after_configure.connect
def _make_broker_folders(sender: Celery, **_: Any) -> None:
    options = sender.conf.broker_transport_options or {}
    for name in ("data_folder_in", "data_folder_out", "control_folder"):
        if name in options:
            Path(options[name]).mkdir(parents=True, exist_ok=True)
