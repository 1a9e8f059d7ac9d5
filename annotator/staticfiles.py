"""Hashed file names, also inside our native ES modules."""

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
from whitenoise.storage import CompressedManifestStaticFilesStorage

# Django's own patterns for imports, which it applies to all files or to none.
_MODULE_IMPORTS = ManifestStaticFilesStorage._js_module_import_aggregation_patterns[1]  # type: ignore[attr-defined]


class HashedModules(CompressedManifestStaticFilesStorage):  # type: ignore[misc]
    """WhiteNoise's storage that also rewrites ``import ... from "./x.js";`` under ``js/``."""

    patterns = (*ManifestStaticFilesStorage.patterns, ("js/*.js", _MODULE_IMPORTS))
