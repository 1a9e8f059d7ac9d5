"""Every route of the API with something to call it on, for tests that try all of them."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.conf import settings
from django.urls import URLPattern, get_resolver, reverse
from django.utils import timezone
from factories import class_of, make_images, make_label, make_ranking, make_user
from safetensors.numpy import save

from annotator.accounts import services as accounts
from annotator.accounts.models import Role, Scope, User
from annotator.exports.models import Export
from annotator.ingest.models import Import
from annotator.ingest.services import start_upload
from annotator.jobs.models import Job
from annotator.labeling.models import Annotation, Image, LabelClass, Project
from annotator.labeling.services import (
    delete_class,
    delete_image,
    delete_project,
)
from annotator.webhooks import signing
from annotator.webhooks.models import Delivery, Webhook
from workqueue.model_files import MANIFEST, WEIGHTS
from workqueue.models import ExternalModel, ModelVersion, Replay, Round
from workqueue.services import claim

METHODS = ("get", "head", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Route:
    """An address of the API and what can be done there."""

    name: str
    pattern: str
    view: type
    parameters: tuple[str, ...]

    @property
    def methods(self) -> list[str]:
        return [method for method in METHODS if hasattr(self.view, method)]

    def address(self, values: dict[str, Any]) -> str:
        return reverse(f"api:{self.name}", kwargs={name: values[name] for name in self.parameters})


def api_routes() -> list[Route]:
    """Return the routes, in the order of their addresses."""
    (api,) = [entry for entry in get_resolver().url_patterns if str(entry.pattern) == "api/v1/"]
    return sorted(
        (_route(entry) for entry in api.url_patterns if entry.name),
        key=lambda route: (route.pattern, route.name),
    )


def _route(entry: URLPattern) -> Route:
    pattern = str(entry.pattern)
    view: Any = entry.callback
    return Route(entry.name, pattern, view.view_class, tuple(re.findall(r"<\w+:(\w+)>", pattern)))


def _annotation(user: User, project: Project) -> int:
    image = make_images(project, 1)[0]
    return make_label(image, user, class_of(project)).pk


def _lease(user: User, project: Project) -> str:
    claimed = claim(user=user, project=project, n=1, client="kit", now=timezone.now())
    return str(claimed.leases[0].token)


def _undoable(user: User, project: Project) -> int:
    mine = Annotation.objects.filter(author=user, image__project=project, is_current=True)
    return mine.latest("pk").pk if mine.exists() else _annotation(user, project)


def _upload(user: User, project: Project) -> Any:
    return start_upload(project=project, user=user, file_name="a.zip", length=10).key


def _import(user: User, project: Project) -> int:
    upload = start_upload(project=project, user=user, file_name="a.zip", length=10)
    return Import.objects.create(project=project, upload=upload).pk


def _export(user: User, project: Project) -> int:
    settings.EXPORTS_ROOT.mkdir(parents=True, exist_ok=True)
    export = Export.objects.create(project=project, format="csv")
    export.stored_name = f"{export.key.hex}-kit.csv"
    export.path.write_text("image_id\n")
    export.save()
    return export.pk


def _invitation(user: User, project: Project) -> int:
    return accounts.invite(
        project_id=project.pk, role=Role.ANNOTATOR, actor=user, now=timezone.now()
    ).pk


def _token(user: User, project: Project) -> int:
    return accounts.create_token(user=user, name="kit", now=timezone.now()).pk


def _service_token(user: User, project: Project) -> int:
    return accounts.create_service_token(
        project_id=project.pk, name="kit", scope=Scope.READ, actor=user, now=timezone.now()
    ).pk


def _member(user: User, project: Project) -> int:
    member = make_user()
    accounts.set_role(project_id=project.pk, user=member, role=Role.ANNOTATOR, actor=user)
    return member.pk


def _failed_round(user: User, project: Project) -> int:
    number = project.rounds.count() + 1
    return Round.objects.create(project=project, number=number, state="failed", trigger="person").pk


def _replay(user: User, project: Project) -> int:
    return Replay.objects.create(project=project, heuristics=[], n_seeds=2, batch_size=5).pk


def _stored_model(user: User, project: Project) -> int:
    number = project.model_versions.count() + 1
    folder = settings.MODELS_ROOT / f"stored-{project.pk}-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"weights": (2, 3), "bias": 2, "mean": 3, "scale": 1}
    content = save({name: np.ones(size, np.float32) for name, size in sizes.items()})
    manifest = {"format": 2, "head": "logistic", "kind": "one_class", "temperature": 1.0}
    (folder / WEIGHTS).write_bytes(content)
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return ModelVersion.objects.create(
        project=project, number=number, backbone="b", class_ids=[], folder=folder.name,
        sha256=hashlib.sha256(content).hexdigest(), n_labels=0,
    ).pk  # fmt: skip


def _failed_job(user: User, project: Project) -> int:
    return Job.objects.create(kind="embed", queue="embed", project=project, state="failed").pk


def _archived_project(user: User, project: Project) -> int:
    # A row of its own: what is in memory outlives the transaction.
    living = Project.objects.filter(pk=project.pk, deleted_at=None).first()
    if living:
        delete_project(project=living, actor=user, now=timezone.now())
    return project.pk


def _deleted_class(user: User, project: Project) -> int:
    gone = LabelClass.objects.get(project=project.pk, name="dog")
    if gone.deleted_at is None:
        delete_class(label_class=gone, actor=user, now=timezone.now())
    return gone.pk


def _deleted_image(user: User, project: Project) -> int:
    gone = Image.objects.get(pk=make_images(project, 1)[0].pk)
    delete_image(image=gone, actor=user, now=timezone.now())
    return gone.pk


def _model(_: User, project: Project) -> int:
    number = project.model_versions.count() + 1
    folder = settings.MODELS_ROOT / f"kit-{project.pk}-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(b"weights")
    (folder / MANIFEST).write_text("{}")
    return ModelVersion.objects.create(
        project=project, number=number, backbone="b", class_ids=[], folder=folder.name,
        sha256=hashlib.sha256(b"weights").hexdigest(), n_labels=0,
    ).pk  # fmt: skip


def _external_model(_: User, project: Project) -> int:
    return ExternalModel.objects.create(
        project=project, name=f"kit-{project.external_models.count()}", class_ids=[]
    ).pk


def _webhook(user: User, project: Project) -> int:
    nonce = signing.new_nonce()
    secret_hash = signing.hash_of(signing.secret_of(nonce))
    return Webhook.objects.create(
        project=project, url=RECEIVER, events=["round.*"], nonce=nonce, secret_hash=secret_hash,
        created_by=user,
    ).pk  # fmt: skip


def _delivery(user: User, project: Project) -> int:
    return Delivery.objects.create(
        webhook_id=_webhook(user, project), kind="round.done", state=Delivery.State.DELIVERED
    ).pk


# Nobody is asked for a name, and nothing is sent.
RECEIVER = "https://8.8.8.8/hook"

# What stands in an address: how to make one that is this person's, in this project.
THINGS: dict[str, Callable[[User, Project], Any]] = {
    "project_id": lambda _, project: project.pk,
    "class_id": lambda _, project: class_of(project, "dog").pk,
    "image_id": lambda _, project: make_images(project, 1)[0].pk,
    "user_id": _member,
    "invitation_id": _invitation,
    "token_id": _service_token,
    "token": _lease,
    "annotation_id": _annotation,
    "round_id": _failed_round,
    "replay_id": _replay,
    "job_id": _failed_job,
    "key": _upload,
    "import_id": _import,
    "model_id": _model,
    "webhook_id": _webhook,
    "delivery_id": _delivery,
    "export_id": _export,
}
# The same name for another thing, on one route.
THINGS_OF_ROUTE: dict[tuple[str, str], Callable[[User, Project], Any]] = {
    ("token", "token_id"): _token,
    ("external_model", "model_id"): _external_model,
    ("project_restore", "project_id"): _archived_project,
    ("class_restore", "class_id"): _deleted_class,
    ("image_restore", "image_id"): _deleted_image,
}
# Things that belong to one person inside a project (or outside of any).
ONES_OWN = {("token", "token_id"), *((name, "token") for name in ("heartbeat", "release", "skip"))}
ONES_OWN |= {(name, "annotation_id") for name in ("annotation", "annotation_history")}

Body = Callable[[User, Project], dict[str, Any]]
# A body that is accepted, for each write; {} where there is none here.
BODIES: dict[str, Body] = {
    "post tokens": lambda *_: {"name": "n", "scope": "manage"},
    "post service_tokens": lambda *_: {"name": "n"},
    "post projects": lambda *_: {"name": "n"},
    "patch project": lambda *_: {"name": "n"},
    "post classes": lambda *_: {"name": "n"},
    "patch class": lambda *_: {"name": "n"},
    "patch member": lambda *_: {"role": "reviewer"},
    "post images": lambda *_: {"urls": ["https://example.org/a.png"]},
    "post known": lambda *_: {"sha256": []},
    "post submit": lambda user, project: {
        "lease": _lease(user, project), "class_ids": [class_of(project).pk], "key": "k",
    },
    "post exports": lambda *_: {"format": "csv"},
    "post undo": lambda user, project: {"annotation": _undoable(user, project)},
    "post release_person": lambda user, _: {"user": user.pk},
    "patch queue_settings": lambda *_: {"batch_size": 7},
    "put annotation": lambda _, project: {"class_ids": [class_of(project, "dog").pk]},
    "put predictions": lambda _, project: {
        "model": "m",
        "class_ids": [class_of(project).pk, class_of(project, "dog").pk],
        "predictions": [{"image": make_images(project, 1)[0].pk, "probabilities": [0.4, 0.6]}],
    },
    "post webhooks": lambda *_: {"url": RECEIVER},
    "patch webhook": lambda *_: {"description": "d"},
}  # fmt: skip
# What has to be sent beside the body.
HEADERS = {"put annotation": {"If-Match": "*"}}


THINGS_OF_ROUTE |= {(name, "model_id"): _stored_model for name in ("model", "model_download")}
ONES_OWN |= {("lease", "token")}
BODIES |= {
    "post annotations": lambda _, project: {
        "image": make_images(project, 1)[0].pk, "class_ids": [class_of(project).pk],
    },
}  # fmt: skip


def values_for(route: Route, user: User, project: Project) -> dict[str, Any]:
    """Return what to put into the address, made for this person in this project."""
    made = {}
    for name in route.parameters:
        make = THINGS_OF_ROUTE.get((route.name, name), THINGS.get(name))
        assert make, f"{route.pattern}: say in tests/api_kit.py how to make a {name}"
        made[name] = make(user, project)
    return made


def body_for(method: str, route: Route, user: User, project: Project) -> dict[str, Any]:
    """Return a body that is accepted."""
    make = BODIES.get(f"{method} {route.name}")
    return make(user, project) if make else {}


def headers_for(method: str, route: Route) -> dict[str, str]:
    """Return the headers without which it is not."""
    return HEADERS.get(f"{method} {route.name}", {})


def fill(project: Project) -> Project:
    """Give the project images in an order, so that there is something to claim."""
    make_ranking(project, make_images(project, 12))
    return project
