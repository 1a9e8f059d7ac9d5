"""The JSON of the work queue: what the API answers and the labeling page shows."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.urls import reverse

from annotator.jobs.models import Job
from annotator.labeling.models import Annotation, Image, LabelClass, Project
from annotator.labeling.presenters import present_annotation, present_image
from annotator.prepared import Given, Prepared
from workqueue import selectors, stopping
from workqueue.agreement import AGREEMENT_FROM, Agreement
from workqueue.heuristics import CHOICES, title_of, training_cost
from workqueue.models import (
    Lease,
    ModelVersion,
    QueueSettings,
    RankedImage,
    Ranking,
    Replay,
    Round,
)

SUGGEST_FROM = 0.5
_CLASSES = Prepared(lambda: LabelClass.objects.filter(project=Given("project"), deleted_at=None))


def iso(moment: datetime | None) -> str | None:
    """Return a time as ISO 8601 text."""
    return moment.isoformat() if moment else None


def present_status(project: Project, now: datetime) -> dict[str, Any]:
    """Return the state of the queue, as polled by the labeling page."""
    queue = selectors.queue_of(project)
    kept, state, settings = queue.project, queue.state, queue.settings
    newest = selectors.newest_round(project)
    jobs = selectors.newest_jobs(project)
    return {
        "ranking": _ranking(state.ranking) if state.ranking else None,
        "model": _model(state.model_version) if state.model_version else None,
        "round": _round_in_brief(newest) if newest else None,
        "labels_since_round": state.labels_since_round,
        "labels_until_round": max(settings.batch_size - state.labels_since_round, 0),
        "batch_size": settings.batch_size,
        "n_images": kept.n_images,
        "n_labelled": kept.n_labelled,
        "n_labels": kept.n_labels,
        "annotators_per_image": kept.annotators_per_image,
        "is_settling": kept.is_settling,
        "n_open": kept.n_images - kept.n_labelled,
        "n_leased": selectors.n_leased(project, now),
        "n_embedded": state.n_embedded,
        "n_embedding_failures": state.n_embedding_failures,
        "embedding": _embedding(jobs.get("embed")),
        "stop": stopping.advice(project, settings).as_json(),
        "jobs_failed": [
            {"id": job.pk, "kind": job.kind, "error": job.error}
            for job in jobs.values()
            if job.state == Job.State.FAILED
        ],
    }


def _ranking(ranking: Ranking) -> dict[str, Any]:
    return {
        "number": ranking.number,
        "kind": ranking.kind,
        "heuristic": ranking.heuristic,
        "heuristic_title": title_of(ranking.heuristic),
        "external_model": ranking.external_model or None,
        "created_at": iso(ranking.created_at),
        "n_positions": ranking.n_positions,
        "n_candidates": ranking.n_candidates,
        "n_pool": ranking.n_pool,
    }


def _model(model: ModelVersion) -> dict[str, Any]:
    return {
        "number": model.number,
        "n_labels": model.n_labels,
        "created_at": iso(model.created_at),
        "accuracy": model.metrics.get("accuracy"),
        "forecast": model.metrics.get("forecast"),
    }


def _round_in_brief(round_: Round) -> dict[str, Any]:
    return {
        "id": round_.pk,
        "number": round_.number,
        "state": round_.state,
        "step_message": round_.job.message if round_.job else "",
        "error": round_.error,
    }


def _embedding(job: Job | None) -> dict[str, Any] | None:
    if job is None:
        return None
    return {
        "state": job.state,
        "done": job.progress_done,
        "total": job.progress_total,
        "message": job.message,
        "error": job.error,
    }


def present_ranking(ranking: Any) -> dict[str, Any]:
    """Return one of the rankings of a project, with whether its positions can be listed."""
    model: ModelVersion | None = ranking.model_version
    return {
        **_ranking(ranking),
        "model": {"id": model.pk, "number": model.number} if model else None,
        "is_current": ranking.is_current,
        "is_kept": ranking.is_kept,
    }


def present_own_lease(lease: Lease, now: datetime) -> dict[str, Any]:
    """Return one lease of a person and what became of it."""
    is_over = lease.state == Lease.State.LIVE and lease.expires_at <= now
    return {
        **present_lease(lease, classes_of(lease.project)),
        "state": Lease.State.EXPIRED if is_over else lease.state,
        "granted_at": iso(lease.granted_at),
    }


def present_lease(lease: Lease, classes: dict[int, LabelClass]) -> dict[str, Any]:
    """Return an image to label, why it was served and what the model would say."""
    return {
        "token": str(lease.token),
        "expires_at": iso(lease.expires_at),
        "image": present_image(lease.image, None),
        "why": present_why(lease.served, classes),
        "suggestion": _suggestion(lease, classes),
    }


def present_why(served: dict[str, Any], classes: dict[int, LabelClass]) -> dict[str, Any]:
    """Return why an image was served, in numbers and in a sentence for people."""
    explored = bool(served.get("explored"))
    tops = [] if explored else served.get("top_classes") or []
    heuristic = served.get("heuristic") or ""
    return {
        "ranking": served.get("ranking"),
        "kind": served.get("kind", "unranked"),
        "heuristic": heuristic,
        "heuristic_title": title_of(heuristic),
        "score": None if explored else served.get("score"),
        "position": served.get("position"),
        "n_positions": served.get("n_positions"),
        "n_candidates": served.get("n_candidates"),
        "n_pool": served.get("n_pool"),
        "model": served.get("model"),
        "model_created_at": served.get("model_created_at"),
        "model_n_labels": served.get("model_n_labels"),
        "external_model": served.get("external_model") or None,
        "top_classes": [
            {"class_id": pk, "name": classes[pk].name, "probability": probability}
            for pk, probability in tops
            if pk in classes
        ],
        "explored": explored,
        "draw_probability": served.get("draw_probability"),
        "sentence": _sentence(served, classes, explored=explored),
    }


def _sentence(served: dict[str, Any], classes: dict[int, LabelClass], *, explored: bool) -> str:
    if explored:
        return (
            "Drawn at random, so that accuracy can be measured fairly. "
            "The model's guess is hidden on purpose."
        )
    if served.get("kind") == "begun":
        return (
            "Somebody else has labelled this image, and this project asks several people. "
            "The model's guess is hidden, so that your answer is your own."
        )
    if served.get("kind") == "coverage":
        return (
            "The model knows too little to choose yet: this image is typical of a part of the "
            "collection that has no labels so far."
        )
    if served.get("kind") == "direct":
        return "You labelled this image outside the queue."
    if served.get("kind") != "heuristic":
        return "Not ranked yet: served in random order until the next ranking."
    place = f"Number {served['position']} of {served['n_candidates']:,} ranked images"
    if served["heuristic"] == "none":
        return f"{place}, in file order."
    if served["heuristic"] == "random":
        return f"{place}, in random order."
    tops = [(classes[pk].name, share) for pk, share in served["top_classes"] if pk in classes]
    if len(tops) < 2:
        return f"{place} by {title_of(served['heuristic']).lower()}."
    (first, p1), (second, p2) = tops[:2]
    who = served.get("external_model") or "the model"
    return f"{place}: {who} wavers between {first} ({p1:.0%}) and {second} ({p2:.0%})."


def _suggestion(lease: Lease, classes: dict[int, LabelClass]) -> dict[str, Any] | None:
    served = lease.served
    tops = [(pk, p) for pk, p in served.get("top_classes") or [] if pk in classes]
    if served.get("explored") or not tops:
        return None
    if lease.project.kind == Project.Kind.ONE_CLASS:
        return {"class_ids": [tops[0][0]], "probability": tops[0][1]}
    likely = [(pk, p) for pk, p in tops if p >= SUGGEST_FROM]
    if not likely:
        return None
    return {"class_ids": [pk for pk, _ in likely], "probability": min(p for _, p in likely)}


def present_claim(
    project: Project, leases: list[Lease], empty: selectors.EmptyQueue | None, now: datetime
) -> dict[str, Any]:
    """Return the answer to a claim."""
    classes = classes_of(project)
    for lease in leases:
        lease.project = project
    return {
        "leases": [present_lease(lease, classes) for lease in leases],
        "empty": _empty(empty) if empty else None,
        "status": present_status(project, now),
    }


def classes_of(project: Project) -> dict[int, LabelClass]:
    """Return the project's living classes by id."""
    return {entry.pk: entry for entry in _CLASSES.all(project=project)}


def _empty(empty: selectors.EmptyQueue) -> dict[str, Any]:
    return {
        "reason": empty.reason,
        "sentence": empty.sentence,
        "next_free_at": iso(empty.next_free_at),
        "n_leased": empty.n_leased,
        "n_skipped_by_you": empty.n_skipped_by_you,
    }


def present_settings(settings: QueueSettings) -> dict[str, Any]:
    """Return the queue settings with the choices and their help texts."""
    return {
        "heuristic": settings.heuristic,
        "budget_kind": settings.budget_kind,
        "budget_value": settings.budget_value,
        "batch_size": settings.batch_size,
        "exploration_share": settings.exploration_share,
        "annotators_per_image": settings.project.annotators_per_image,
        "lease_minutes": settings.lease_minutes,
        "hold_leases": settings.hold_leases,
        "training": settings.training,
        "training_cost": _training_cost(settings),
        "head": settings.head,
        "predictions_from": settings.predictions_from,
        "spread_duplicates": settings.spread_duplicates,
        "balance_classes": settings.balance_classes,
        "stop_at_labels": settings.stop_at_labels,
        "stop_at_rounds": settings.stop_at_rounds,
        "stop_at_accuracy": settings.stop_at_accuracy,
        "stop_without_gain": settings.stop_without_gain,
        "stop_is_hard": settings.stop_is_hard,
        "version": settings.version,
        "updated_at": iso(settings.updated_at),
        "updated_by": settings.updated_by.shown_name if settings.updated_by else None,
        "choices": CHOICES,
    }


def _training_cost(settings: QueueSettings) -> str:
    if settings.training == QueueSettings.Training.HEAD:
        return ""
    project = settings.project
    return training_cost(
        settings,
        n_labelled=project.n_labelled,
        n_pool=project.n_images - project.n_labelled,
        measured=selectors.newest_fine_tuned_round(project),
    )


def present_replay(replay: Replay) -> dict[str, Any]:
    """Return a bake-off: its state, its progress and, once it is done, its table."""
    job = replay.job
    return {
        "id": replay.pk,
        "heuristics": replay.heuristics,
        "n_seeds": replay.n_seeds,
        "state": "done" if replay.finished_at else job.state if job else "failed",
        "progress": {
            "done": job.progress_done if job else 0,
            "total": job.progress_total if job else 0,
            "message": job.message if job else "",
        },
        "error": job.error if job else "",
        "result": _replay_result(replay) if replay.finished_at else None,
        "created_at": iso(replay.created_at),
        "finished_at": iso(replay.finished_at),
    }


def _replay_result(replay: Replay) -> dict[str, Any]:
    rows = [
        {
            **{name: value for name, value in row.items() if name != "areas"},
            "title": title_of(row["heuristic"]),
            "area_percent": f"{row['area']:.1%}"[:-1],
            "difference": f"{100 * row['against_random']['mean']:+.1f}",
            "interval": f"{100 * row['against_random']['low']:+.1f} to "
            f"{100 * row['against_random']['high']:+.1f}",
        }
        for row in replay.result["rows"]
    ]
    return {**replay.result, "rows": rows, "verdict": _verdict(rows, replay.result)}


def _verdict(rows: list[dict[str, Any]], result: dict[str, Any]) -> str:
    """Say in words what the table shows, and no more."""
    better = [row["title"] for row in rows if row["is_real"] and row["against_random"]["mean"] > 0]
    worse = [row["title"] for row in rows if row["is_real"] and row["against_random"]["mean"] < 0]
    sentences = [
        f"Really better than random here: {', '.join(better)}."
        if better
        else "On these labels no heuristic is really better than random."
    ]
    if worse:
        sentences.append(f"Really worse than random: {', '.join(worse)}.")
    if result["better_than_auto"]:
        sentences.append(f"{title_of(result['better_than_auto'])} is really better than Auto.")
    if result["is_indicative"]:
        sentences.append(
            "Indicative only: there are too few random labels to measure on, and the labels at "
            "hand are those the queue liked."
        )
    return " ".join(sentences)


def present_model(model: ModelVersion, in_use: int | None) -> dict[str, Any]:
    """Return one model version with its figures.

    Args:
        model: which.
        in_use: the id of the one in use.
    """
    return {
        "id": model.pk,
        **_model(model),
        "training": model.training,
        "backbone": model.backbone,
        "class_ids": model.class_ids,
        "sha256": model.sha256,
        "metrics": model.metrics,
        "is_in_use": model.pk == in_use,
    }


def present_round(round_: Round) -> dict[str, Any]:
    """Return one round with its figures."""
    return {
        "id": round_.pk,
        "number": round_.number,
        "trigger": round_.trigger,
        "state": round_.state,
        "n_labels": round_.n_labels,
        "n_pool": round_.n_pool,
        "n_candidates": round_.n_candidates,
        "seconds": round_.seconds,
        "metrics": round_.metrics,
        "overlap_top_100": round_.overlap_top_100,
        "note": round_.note,
        "error": round_.error,
        "settings_used": round_.settings_used,
        "model_number": round_.model_version.number if round_.model_version else None,
        "ranking_number": round_.ranking.number if round_.ranking else None,
        "created_at": iso(round_.created_at),
        "started_at": iso(round_.started_at),
        "finished_at": iso(round_.finished_at),
    }


def round_row(round_: Round, in_use: int | None) -> dict[str, Any]:
    """Return a row of the table of rounds.

    Args:
        round_: which.
        in_use: the id of the model in use.
    """
    model = round_.model_version
    used = round_.settings_used
    accuracy = round_.metrics.get("accuracy")
    kind = round_.ranking.kind if round_.ranking else ""
    return {
        "id": round_.pk,
        "number": round_.number,
        "trigger": round_.get_trigger_display(),
        "state": round_.state,
        "n_labels": round_.n_labels,
        "n_pool": round_.n_pool,
        "n_candidates": round_.n_candidates,
        "total_seconds": sum(round_.seconds.values()) if round_.seconds else None,
        "heuristic": title_of("coverage" if kind == "coverage" else used.get("heuristic", "")),
        "overlap": None if round_.overlap_top_100 is None else round(round_.overlap_top_100 * 100),
        "accuracy": accuracy,
        "model": model,
        "model_is_in_use": model is not None and model.pk == in_use,
        "note": round_.note,
        "error": round_.error,
        "finished_at": round_.finished_at,
    }


def present_position(ranked: RankedImage, classes: dict[int, LabelClass]) -> dict[str, Any]:
    """Return one position of a ranking."""
    tops = [] if ranked.explored else ranked.top_classes
    return {
        "position": ranked.position,
        "score": None if ranked.explored else ranked.score,
        "begun": ranked.position <= ranked.ranking.n_begun,
        "explored": ranked.explored,
        "draw_probability": ranked.draw_probability,
        "image": present_image(ranked.image, None),
        "top_classes": [
            {"class_id": pk, "name": classes[pk].name, "probability": probability}
            for pk, probability in tops
            if pk in classes
        ],
    }


def present_place(ranked: RankedImage, project: Project) -> dict[str, Any]:
    """Return where an image stands in a ranking, without the image."""
    shown = present_position(ranked, classes_of(project))
    del shown["image"]
    return {"ranking": ranked.ranking.number, **shown}


def present_holding(lease: Lease) -> dict[str, Any]:
    """Return who holds an image since when and until when, for a lead."""
    return {
        "token": str(lease.token),
        "user_id": lease.user_id,
        "user": lease.user.shown_name,
        "image_id": lease.image_id,
        "file_name": lease.image.file_name,
        "thumbnail_url": reverse("image_file", args=[lease.image.key, "thumbnail.jpg"]),
        "granted_at": iso(lease.granted_at),
        "expires_at": iso(lease.expires_at),
    }


def holders(leases: Iterable[Lease]) -> list[dict[str, Any]]:
    """Return the leases by the person who holds them."""
    found: dict[int, dict[str, Any]] = {}
    for lease in leases:
        holder = found.setdefault(lease.user_id, {"user": lease.user, "leases": []})
        holder["leases"].append(lease)
    return list(found.values())


def present_change(row: Annotation, by: dict[int, str]) -> dict[str, Any]:
    """Return one of the things said of an image, with who made it."""
    return {
        **present_annotation(row),
        "by": by.get(row.pk, row.author.shown_name),
        "is_current": row.is_current,
        "replaces": row.replaces_id,
        "due_to_class": row.due_to_class.name if row.due_to_class else None,
    }


def present_row(annotation: Annotation) -> dict[str, Any]:
    """Return one row of the history, and whether it stands."""
    return {
        **present_annotation(annotation),
        "is_current": annotation.is_current,
        "replaces": annotation.replaces_id,
    }


def present_kept(annotation: Annotation) -> dict[str, Any]:
    """Return a label that is kept and does not count, with its image and why."""
    return {
        **present_annotation(annotation),
        "file_name": annotation.image.file_name,
        "classes": [region.label_class.name for region in annotation.regions.all()],
        "reason": annotation.get_outcome_display(),
    }


def present_mine(annotation: Annotation) -> dict[str, Any]:
    """Return one of the person's own labels with its image."""
    image: Image = annotation.image
    return {**present_annotation(annotation), "image": present_image(image, annotation)}


def present_agreement(found: Agreement) -> dict[str, Any]:
    """Return how far people agree; the shares only where there are images enough to tell."""
    enough = found.n_images >= AGREEMENT_FROM
    return {
        "n_images": found.n_images,
        "n_differ": found.n_images - found.n_unanimous,
        "unanimous": found.n_unanimous / found.n_images if enough else None,
        "alpha": round(found.alpha, 2) if enough and found.alpha is not None else None,
        "is_newest": found.is_newest,
    }


def present_labelled(image: Image, annotations: Sequence[Annotation]) -> dict[str, Any]:
    """Return an image with what everybody says of it now, the earliest first."""
    return present_image(image, annotations[0] if annotations else None, annotations)
