"""API routes of the work queue."""

from django.urls import path

from workqueue.views import images, labels, ordering, predictions, rounds, serving

_project = "projects/<id:project_id>/"
_queue = f"{_project}queue/"
_lease = f"{_queue}leases/<uuid:token>/"

urlpatterns = [
    path(f"{_queue}claim/", serving.ClaimView.as_view(), name="claim"),
    path(f"{_queue}submit/", labels.SubmitView.as_view(), name="submit"),
    path(f"{_queue}undo/", labels.UndoView.as_view(), name="undo"),
    path(f"{_queue}unskip/", serving.UnskipView.as_view(), name="unskip"),
    path(f"{_queue}status/", serving.StatusView.as_view(), name="status"),
    path(f"{_queue}settings/", ordering.SettingsView.as_view(), name="queue_settings"),
    path(
        f"{_queue}settings/history/",
        ordering.SettingsHistoryView.as_view(),
        name="settings_history",
    ),
    path(f"{_queue}ranking/", ordering.RankingView.as_view(), name="ranking"),
    path(f"{_queue}rankings/", ordering.RankingsView.as_view(), name="rankings"),
    path(f"{_queue}leases/", serving.LeasesView.as_view(), name="leases"),
    path(f"{_queue}leases/release/", serving.PersonReleaseView.as_view(), name="release_person"),
    path(_lease, serving.LeaseShowView.as_view(), name="lease"),
    path(f"{_lease}heartbeat/", serving.HeartbeatView.as_view(), name="heartbeat"),
    path(f"{_lease}release/", serving.ReleaseView.as_view(), name="release"),
    path(f"{_lease}skip/", serving.SkipView.as_view(), name="skip"),
    path(f"{_project}predictions/", predictions.PredictionsView.as_view(), name="predictions"),
    path(
        f"{_project}predictions/models/",
        predictions.ExternalModelsView.as_view(),
        name="external_models",
    ),
    path(
        f"{_project}predictions/models/<id:model_id>/",
        predictions.ExternalModelView.as_view(),
        name="external_model",
    ),
    path(f"{_project}rounds/", rounds.RoundsView.as_view(), name="rounds"),
    path(f"{_project}rounds/<id:round_id>/", rounds.RoundView.as_view(), name="round"),
    path(
        f"{_project}rounds/<id:round_id>/retry/",
        rounds.RoundRetryView.as_view(),
        name="round_retry",
    ),
    path(f"{_project}models/", rounds.ModelsView.as_view(), name="models"),
    path(f"{_project}models/<id:model_id>/", rounds.ModelView.as_view(), name="model"),
    path(
        f"{_project}models/<id:model_id>/download/",
        rounds.ModelDownloadView.as_view(),
        name="model_download",
    ),
    path(
        f"{_project}models/<id:model_id>/promote/",
        rounds.ModelPromoteView.as_view(),
        name="model_promote",
    ),
    path(f"{_project}replays/", rounds.ReplaysView.as_view(), name="replays"),
    path(f"{_project}replays/<id:replay_id>/", rounds.ReplayView.as_view(), name="replay"),
    path(f"{_project}jobs/<id:job_id>/retry/", rounds.JobRetryView.as_view(), name="job_retry"),
    path(f"{_project}annotations/", labels.AnnotationsView.as_view(), name="annotations"),
    path(f"{_project}annotations/mine/", labels.MyAnnotationsView.as_view(), name="my_annotations"),
    path(f"{_project}annotations/kept/", labels.KeptLabelsView.as_view(), name="kept_labels"),
    path(
        "annotations/<id:annotation_id>/history/",
        labels.AnnotationHistoryView.as_view(),
        name="annotation_history",
    ),
    path("annotations/<id:annotation_id>/", labels.AnnotationView.as_view(), name="annotation"),
    path(f"{_project}metrics/", images.MetricsView.as_view(), name="metrics"),
]
