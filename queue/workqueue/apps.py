from django.apps import AppConfig


class WorkqueueConfig(AppConfig):
    name = "workqueue"

    def ready(self) -> None:
        from annotator.accounts.hooks import on_member_removed
        from annotator.exports.hooks import on_sample_asked
        from annotator.ingest import hooks
        from annotator.jobs import registry
        from annotator.labeling import hooks as labeling_hooks
        from workqueue.requests import request_embedding
        from workqueue.sampling import random_sample
        from workqueue.services import count_again, end_all_leases, end_leases, take_back

        registry.register(
            "round", "workqueue.rounds:run_round", on_failure="workqueue.rounds:round_failed"
        )
        registry.register("replay", "workqueue.replays:run_replay")
        registry.register("overlap", "workqueue.overlap:run_settling")
        registry.register("embed", "workqueue.embedding:run_embedding")
        hooks.on_images_added(lambda project_id: request_embedding(project_id=project_id))
        labeling_hooks.on_labels_withdrawn(take_back)
        labeling_hooks.on_labels_recalled(count_again)
        labeling_hooks.on_project_archived(end_all_leases)
        labeling_hooks.on_images_brought_back(
            lambda project_id: request_embedding(project_id=project_id)
        )
        on_member_removed(end_leases)
        on_sample_asked(random_sample)
