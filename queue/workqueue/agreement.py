"""How far people agree on the images that several of them labelled."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from django.db.models import Count

from annotator.labeling.models import Annotation, AnnotationRegion, Project

# The newest so many images: enough to be sure within two points, and soon counted.
IMAGES = 2000
# Fewer images than this say nothing of how far people agree.
AGREEMENT_FROM = 10


@dataclass(frozen=True)
class Agreement:
    """What several people said of the same images.

    Attributes:
        n_images: images with labels of two or more people.
        n_unanimous: those of which all said the same.
        alpha: Krippendorff's alpha; None for several classes an image, or when all labels are of
            one class, where there is nothing to tell apart.
        is_newest: there are more such images, and only the newest were looked at.
    """

    n_images: int
    n_unanimous: int
    alpha: float | None
    is_newest: bool


@dataclass(frozen=True)
class OwnAgreement:
    """How often one person says the same as others.

    Attributes:
        n_images: images that others have labelled too.
        share: of all pairs with another's label of the same image, those that are equal.
    """

    n_images: int
    share: float


def agreement(project: Project) -> Agreement:
    """Return how far people agree in a project."""
    image_ids = _of_several_people(project)
    labels = [list(said.values()) for said in _labels_of(image_ids[:IMAGES])]
    return Agreement(
        n_images=len(labels),
        n_unanimous=sum(len(set(said)) == 1 for said in labels),
        alpha=krippendorff_alpha(labels) if project.kind == Project.Kind.ONE_CLASS else None,
        is_newest=len(image_ids) > IMAGES,
    )


def agreement_of_each(project: Project) -> dict[int, OwnAgreement]:
    """Return user id -> how often the person says the same as others, where others spoke."""
    n_images: Counter[int] = Counter()
    n_pairs: Counter[int] = Counter()
    n_same: Counter[int] = Counter()
    for said in _labels_of(_of_several_people(project)[:IMAGES]):
        votes = Counter(said.values())
        for user_id, label in said.items():
            n_images[user_id] += 1
            n_pairs[user_id] += len(said) - 1
            n_same[user_id] += votes[label] - 1
    return {pk: OwnAgreement(n, n_same[pk] / n_pairs[pk]) for pk, n in n_images.items()}


def _of_several_people(project: Project) -> list[int]:
    """Return the images with several labels, the newest first, one more than are looked at."""
    standing = Annotation.objects.filter(
        image__project=project, image__deleted_at=None, is_current=True
    )
    several = standing.order_by().values("image").annotate(n=Count("pk")).filter(n__gte=2)
    return list(several.order_by("-image").values_list("image", flat=True)[: IMAGES + 1])


def _labels_of(image_ids: Sequence[int]) -> list[dict[int, frozenset[int]]]:
    """Return of each image user id -> the class ids the person says."""
    standing = Annotation.objects.filter(image__in=image_ids, is_current=True)
    classes: dict[int, set[int]] = defaultdict(set)
    regions = AnnotationRegion.objects.filter(annotation__in=standing)
    for annotation_id, class_id in regions.values_list("annotation", "label_class"):
        classes[annotation_id].add(class_id)
    labels: dict[int, dict[int, frozenset[int]]] = defaultdict(dict)
    for pk, image_id, user_id in standing.values_list("pk", "image", "author"):
        labels[image_id][user_id] = frozenset(classes[pk])
    return list(labels.values())


def krippendorff_alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Return the agreement beyond chance on a nominal scale: 1 is full, 0 is what chance gives.

    After Krippendorff, Computing Krippendorff's Alpha-Reliability (2011). Any number of people, who
    need not have labelled the same units.

    Args:
        units: what was said of each unit; those with fewer than two labels say nothing.

    Returns:
        The alpha, or None where all labels are equal.
    """
    n_of_value: Counter[Hashable] = Counter()
    disagreements = 0.0
    for unit in units:
        if len(unit) < 2:
            continue
        votes = Counter(unit)
        n_of_value.update(votes)
        pairs = len(unit) ** 2 - sum(n * n for n in votes.values())
        disagreements += pairs / (len(unit) - 1)
    n = n_of_value.total()
    by_chance = n * n - sum(count * count for count in n_of_value.values())
    return 1 - (n - 1) * disagreements / by_chance if by_chance else None
