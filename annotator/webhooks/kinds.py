"""The events a webhook can be told of, in the groups the page shows them in."""

from collections.abc import Iterable

ALL = "*"
TEST = "webhook.test"

GROUPS: dict[str, dict[str, str]] = {
    "Labels": {
        "annotation.created": "An image was labelled",
        "annotation.edited": "A label was changed",
        "annotation.withdrawn": "A label was withdrawn",
        "image.skipped": "An image was skipped",
        "skips.taken_back": "Skips were taken back",
        "leases.released": "A lead released a person's images",
    },
    "Images": {
        "images.added": "Images were added; those of some seconds in one message",
        "import.done": "A zip or a list of addresses was imported",
        "image.deleted": "An image was deleted",
        "image.restored": "A deleted image was brought back",
    },
    "Learning": {
        "round.requested": "A round was asked for",
        "round.done": "A round has ended: a new model and ranking",
        "round.failed": "A round has failed",
        "model.promoted": "A lead went back to a former model",
        "predictions.stored": "Predictions of a model of your own were posted",
        "predictions.deleted": "Such a model was deleted with its predictions",
        "replay.done": "A replay has ended",
    },
    "Exports": {
        "export.requested": "An export was asked for",
        "export.done": "An export can be downloaded",
        "export.failed": "An export has failed",
        "export.cancelled": "An export was stopped",
        "export.deleted": "An export was deleted",
    },
    "Project and people": {
        "project.created": "The project was created",
        "project.changed": "Its name or instructions were changed",
        "project.deleted": "The project was archived",
        "project.restored": "The project was brought back",
        "project.settled": "The labels kept meanwhile have followed their project",
        "class.added": "A class was added",
        "class.changed": "A class was changed",
        "class.deleted": "A class was deleted",
        "class.restored": "A deleted class was brought back",
        "class.settled": "The labels have followed a deleted or restored class",
        "queue.settings_changed": "The settings of the queue were changed",
        "member.role_set": "A person joined, or has another role",
        "member.removed": "A person was removed",
        "invitation.created": "An invitation was made",
        "invitation.revoked": "An invitation was revoked",
        "service_token.created": "A token of a service was made",
        "service_token.revoked": "A token of a service was revoked",
        "token.in_address": "A token of a service stood in a web address: replace it",
    },
}
KINDS = [kind for group in GROUPS.values() for kind in group]
# What a webhook can ask for: a kind, all kinds of one thing ("round.*"), or everything.
PATTERNS = [ALL, *sorted({f"{kind.partition('.')[0]}.*" for kind in KINDS}), *KINDS]

# Uploads send a request per file: what comes within some seconds is one message.
COALESCED = {"images.added"}

_OBJECTS = ("image", "round", "class", "user", "invitation", "import", "replay", "export")


def is_wanted(kind: str, patterns: Iterable[str]) -> bool:
    """Return whether one of the patterns means this kind; events of webhooks are never sent."""
    thing = kind.partition(".")[0]
    return thing != "webhook" and not {ALL, kind, f"{thing}.*"}.isdisjoint(patterns)


def about(payload: dict[str, object]) -> str:
    """Return what an event is about; of one thing messages go out in order."""
    return next((f"{name}:{payload[name]}" for name in _OBJECTS if name in payload), "project")
