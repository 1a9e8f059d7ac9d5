"""Whether a saved model is whole. Hashes only: the web process must not load torch."""

import hashlib
import json
from pathlib import Path
from typing import Any

from django.conf import settings

from workqueue.models import ModelVersion

WEIGHTS, MANIFEST = "model.safetensors", "manifest.json"


def why_unusable(model: ModelVersion) -> str:
    """Return what is wrong with a model's files, in words, or nothing when they are whole."""
    folder: Path = settings.MODELS_ROOT / model.folder
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        hashes = {WEIGHTS: model.sha256, **manifest.get("beside", {})}
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    for name, sha256 in hashes.items():
        try:
            found = _hash_of(folder / name)
        except FileNotFoundError:
            return f"{name} is missing"
        except OSError as error:
            return f"{name} cannot be read ({error})"
        if found != sha256:
            return f"{name} is not as it was saved"
    return ""


def _hash_of(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
