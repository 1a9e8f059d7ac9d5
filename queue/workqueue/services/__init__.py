"""Every write of the work queue that a person or a program asks for.

Each function is one short transaction. The constraints of the database, not this code, make a
double lease or a doubled label impossible.
"""

from workqueue.services.labels import (
    UNDO_DEPTH,
    ImageGoneError,
    KeyReusedError,
    Submitted,
    UndoRefusedError,
    count_again,
    edit,
    label_image,
    submit,
    take_back,
    undo,
)
from workqueue.services.leases import (
    MAX_CLAIM,
    Claimed,
    LeaseLostError,
    LeaseUnknownError,
    claim,
    end_all_leases,
    end_leases,
    heartbeat,
    release,
    release_person,
)
from workqueue.services.predictions import (
    ModelInUseError,
    PredictionsRefusedError,
    StoredPredictions,
    delete_predictions,
    put_predictions,
)
from workqueue.services.promotions import ModelUnusableError, Promoted, promote
from workqueue.services.settings import SettingsChangedError, change_settings
from workqueue.services.skips import UnskipRefusedError, skip, unskip, unskip_one

__all__ = [
    "MAX_CLAIM",
    "UNDO_DEPTH",
    "Claimed",
    "ImageGoneError",
    "KeyReusedError",
    "LeaseLostError",
    "LeaseUnknownError",
    "ModelInUseError",
    "ModelUnusableError",
    "PredictionsRefusedError",
    "Promoted",
    "SettingsChangedError",
    "StoredPredictions",
    "Submitted",
    "UndoRefusedError",
    "UnskipRefusedError",
    "change_settings",
    "claim",
    "count_again",
    "delete_predictions",
    "edit",
    "end_all_leases",
    "end_leases",
    "heartbeat",
    "label_image",
    "promote",
    "put_predictions",
    "release",
    "release_person",
    "skip",
    "submit",
    "take_back",
    "undo",
    "unskip",
    "unskip_one",
]
