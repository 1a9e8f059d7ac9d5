from django.apps import AppConfig


class WorkqueueConfig(AppConfig):
    name = "workqueue"

    def ready(self) -> None:
        from annotator.accounts.hooks import on_member_removed
        from annotator.ingest import hooks
        from annotator.jobs import registry
        from annotator.labeling.hooks import on_labels_withdrawn
        from workqueue.requests import request_embedding
        from workqueue.services import end_leases, take_back

        registry.register(
            "round", "workqueue.rounds:run_round", on_failure="workqueue.rounds:round_failed"
        )
        registry.register("replay", "workqueue.replays:run_replay")
        registry.register("overlap", "workqueue.overlap:run_settling")
        registry.register("embed", "workqueue.embedding:run_embedding")
        hooks.on_images_added(lambda project_id: request_embedding(project_id=project_id))
        on_labels_withdrawn(take_back)
        on_member_removed(end_leases)
