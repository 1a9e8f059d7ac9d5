"""API routes of the work queue."""

from django.urls import path

from workqueue import prediction_views, views

_project = "projects/<id:project_id>/"
_queue = f"{_project}queue/"
_lease = f"{_queue}leases/<uuid:token>/"

urlpatterns = [
    path(f"{_queue}claim/", views.ClaimView.as_view(), name="claim"),
    path(f"{_queue}submit/", views.SubmitView.as_view(), name="submit"),
    path(f"{_queue}undo/", views.UndoView.as_view(), name="undo"),
    path(f"{_queue}unskip/", views.UnskipView.as_view(), name="unskip"),
    path(f"{_queue}status/", views.StatusView.as_view(), name="status"),
    path(f"{_queue}settings/", views.SettingsView.as_view(), name="queue_settings"),
    path(
        f"{_queue}settings/history/", views.SettingsHistoryView.as_view(), name="settings_history"
    ),
    path(f"{_queue}ranking/", views.RankingView.as_view(), name="ranking"),
    path(f"{_queue}leases/", views.LeasesView.as_view(), name="leases"),
    path(f"{_queue}leases/release/", views.PersonReleaseView.as_view(), name="release_person"),
    path(f"{_lease}heartbeat/", views.LeaseView.as_view(action="heartbeat"), name="heartbeat"),
    path(f"{_lease}release/", views.LeaseView.as_view(action="release"), name="release"),
    path(f"{_lease}skip/", views.LeaseView.as_view(action="skip"), name="skip"),
    path(f"{_project}predictions/", prediction_views.PredictionsView.as_view(), name="predictions"),
    path(
        f"{_project}predictions/models/",
        prediction_views.ExternalModelsView.as_view(),
        name="external_models",
    ),
    path(
        f"{_project}predictions/models/<id:model_id>/",
        prediction_views.ExternalModelView.as_view(),
        name="external_model",
    ),
    path(f"{_project}rounds/", views.RoundsView.as_view(), name="rounds"),
    path(f"{_project}rounds/<id:round_id>/", views.RoundView.as_view(), name="round"),
    path(
        f"{_project}rounds/<id:round_id>/retry/",
        views.RoundRetryView.as_view(),
        name="round_retry",
    ),
    path(f"{_project}models/", views.ModelsView.as_view(), name="models"),
    path(
        f"{_project}models/<id:model_id>/promote/",
        views.ModelPromoteView.as_view(),
        name="model_promote",
    ),
    path(f"{_project}replays/", views.ReplaysView.as_view(), name="replays"),
    path(f"{_project}replays/<id:replay_id>/", views.ReplayView.as_view(), name="replay"),
    path(f"{_project}jobs/<id:job_id>/retry/", views.JobRetryView.as_view(), name="job_retry"),
    path(f"{_project}annotations/mine/", views.MyAnnotationsView.as_view(), name="my_annotations"),
    path(f"{_project}annotations/kept/", views.KeptLabelsView.as_view(), name="kept_labels"),
    path(
        "annotations/<id:annotation_id>/history/",
        views.AnnotationHistoryView.as_view(),
        name="annotation_history",
    ),
    path("annotations/<id:annotation_id>/", views.AnnotationView.as_view(), name="annotation"),
    path(f"{_project}metrics/", views.MetricsView.as_view(), name="metrics"),
]
