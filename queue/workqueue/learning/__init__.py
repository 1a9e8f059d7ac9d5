"""Rows in, arrays through ``ml``, plain results out: the only package that imports ``ml``.

Imported by workers alone: it loads torch, and the web process must never do that (a test looks).
"""

from workqueue.learning.fine_tuning import (
    FineTuningError,
    drop_networks,
    embed_candidates,
    embed_labelled,
    embed_paths_with,
    embedder,
    fine_tune,
)
from workqueue.learning.heads import (
    NotEnoughLabelsError,
    TrainedHead,
    agreement,
    forecast_of,
    former_head,
    load_head,
    save_head,
    train,
)
from workqueue.learning.labels import LabelledSet, Pool, load_begun, load_labelled, load_pool
from workqueue.learning.ordering import RankedPool, Reembedded, rank_pool
from workqueue.learning.predictions import Predicted, load_predicted
from workqueue.learning.replaying import (
    BakeOff,
    TooFewLabelsError,
    bake_off,
    replay_once,
    summary,
)
from workqueue.learning.store import (
    BACKBONE,
    BackboneUnavailableError,
    EmbeddedSlice,
    TornSegmentError,
    compact,
    embed_built_in_picture,
    embed_images,
    embed_paths,
    remove_segment_file,
    remove_stray_segments,
    verify_segment,
    warm_up,
)

__all__ = [
    "BACKBONE",
    "BackboneUnavailableError",
    "BakeOff",
    "EmbeddedSlice",
    "FineTuningError",
    "LabelledSet",
    "NotEnoughLabelsError",
    "Pool",
    "Predicted",
    "RankedPool",
    "Reembedded",
    "TooFewLabelsError",
    "TornSegmentError",
    "TrainedHead",
    "agreement",
    "bake_off",
    "compact",
    "drop_networks",
    "embed_built_in_picture",
    "embed_candidates",
    "embed_images",
    "embed_labelled",
    "embed_paths",
    "embed_paths_with",
    "embedder",
    "fine_tune",
    "forecast_of",
    "former_head",
    "load_begun",
    "load_head",
    "load_labelled",
    "load_pool",
    "load_predicted",
    "rank_pool",
    "remove_segment_file",
    "remove_stray_segments",
    "replay_once",
    "save_head",
    "summary",
    "train",
    "verify_segment",
    "warm_up",
]
