import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.queue_load import audit
from benchmarks.queue_load.figures import Figure, percentile

pytestmark = pytest.mark.xdist_group("installation")

ROOT = Path(__file__).resolve().parent.parent.parent


def claim(person, end, *leases, status=200):
    got = {"leases": [list(lease) for lease in leases], "empty": None}
    return {"op": "claim", "person": person, "start": end - 0.1, "end": end, "status": status,
            "sent": {}, "got": got, "key": ""}  # fmt: skip


def submit(person, start, lease, image, *, annotation, status=201):
    got = {"annotation": annotation, "image": image} if status in {200, 201} else {}
    return {"op": "submit", "person": person, "start": start, "end": start + 0.1,
            "status": status, "sent": {"lease": lease}, "got": got,
            "key": f"key of {annotation}"}  # fmt: skip


# Two people who label images 7 and 8, each one of them.
GOOD = [
    claim(1, 1.0, ("a", 7)),
    claim(2, 1.1, ("b", 8)),
    submit(1, 2.0, "a", 7, annotation=71),
    submit(2, 2.5, "b", 8, annotation=81),
]
STORED = {"kept": {"key of 71": 71, "key of 81": 81}, "current": {71: 7, 81: 8}, "n_new": 2}


def wrong(history=GOOD, found=STORED, order=(7, 8), in_flight=0):
    return [
        *audit.wrong_answers(history),
        *audit.held_twice(history),
        *audit.labelled_twice(history),
        *audit.out_of_order(history, list(order), in_flight=in_flight),
        *audit.lost_or_doubled(history, found),
    ]


def test_a_history_in_which_all_is_well_has_nothing_wrong():
    assert wrong() == []


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ({"found": {**STORED, "current": {71: 7}, "n_new": 2}}, "is lost"),
        ({"found": {**STORED, "current": {**STORED["current"], 82: 8}, "n_new": 3}}, "2 labels"),
        ({"found": {**STORED, "kept": {"key of 71": 71}}}, "another answer"),
        ({"found": {**STORED, "n_new": 3}}, "3 labels were written, 2 acknowledged"),
        ({"history": [*GOOD, claim(3, 1.5, ("c", 7))]}, "with persons 1 and 3 at once"),
        ({"history": [*GOOD, submit(3, 3, "c", 7, annotation=72)]}, "labelled 2 times"),
        ({"history": [*GOOD, claim(3, 3.0, status=500)]}, "claim was answered 500"),
        ({"history": [*GOOD, claim(3, 3.0, status=0)]}, "not at all"),
        ({"order": (8, 9, 7)}, "came 1th"),
    ],
)
def test_each_planted_fault_is_told(planted, said):
    assert any(said in line for line in wrong(**planted)), wrong(**planted)


def test_a_label_whose_answer_was_lost_may_have_been_kept_or_not():
    history = [*GOOD, submit(1, 4.0, "c", 9, annotation=91, status=0)]

    for n_new in (2, 3):
        found = {**STORED, "n_new": n_new}
        assert audit.lost_or_doubled(history, found) == []
    assert audit.lost_or_doubled(history, {**STORED, "n_new": 4}) != []


def test_an_image_given_back_and_served_to_somebody_else_is_no_double():
    history = [claim(1, 1.0, ("a", 7)), claim(2, 5.0, ("b", 7)),
               submit(2, 6.0, "b", 7, annotation=71)]  # fmt: skip

    assert audit.held_twice(history) == []


def test_images_come_as_far_from_their_places_as_are_leased_at_once():
    history = [claim(1, 1.0, ("a", 9)), claim(2, 1.1, ("b", 7)), claim(1, 1.2, ("c", 8))]

    assert audit.out_of_order(history, [7, 8, 9], in_flight=2) == []
    assert audit.out_of_order(history, [7, 8, 9], in_flight=1) == ["image 9 of position 3 came 1th"]


def test_a_figure_knows_whether_it_meets_its_target():
    assert Figure("LOAD-01", "sqlite", "claim p95", 100, target=100).is_met
    assert not Figure("LOAD-01", "sqlite", "claim p95", 100.1, target=100).is_met
    assert not Figure("LOAD-10", "sqlite", "labels", 39, target=40, at_least=True).is_met
    assert Figure("LOAD-01", "sqlite", "claim p50", 5).is_met is None


def test_the_95th_percentile_is_what_95_of_100_do_not_exceed():
    assert percentile([float(n) for n in range(1, 101)], 0.95) == 95
    assert percentile([7.0], 0.95) == 7
    assert percentile([], 0.95) == 0


def run_mini(database, folder):
    """Let twenty people label for a while and return what came of it."""
    done = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.queue_load", "--scenario", "mini",
            "--database", database, "--images", "100000", "--seconds", "15", "--json",
            "--cache", str(folder),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )  # fmt: skip
    last = done.stdout.splitlines()[-1:]
    assert last, done.stderr
    assert last[0].startswith("{"), done.stdout + done.stderr
    return json.loads(last[0])


def check(result):
    measured = {figure["what"]: figure["value"] for figure in result["figures"]}
    assert result["wrong"] == []
    assert measured["errors, doubles, losses"] == 0
    assert measured["labels"] > 0
    assert measured["claim max"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_people_in_a_hundred_thousand_images_on_sqlite_lose_and_double_nothing(tmp_path):
    check(run_mini("sqlite", tmp_path))


@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_twenty_people_in_a_hundred_thousand_images_on_postgresql_lose_and_double_nothing(tmp_path):
    check(run_mini("postgresql", tmp_path))
