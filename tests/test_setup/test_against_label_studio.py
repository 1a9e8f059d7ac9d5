import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.against_label_studio import figures, installing, label_studio, ours
from benchmarks.against_label_studio.client import Call
from benchmarks.against_label_studio.figures import Pair
from benchmarks.against_label_studio.labeling import (
    doubles,
    label,
    rank_correlation,
    share_of_the_first,
)
from benchmarks.against_label_studio.pictures import most_uncertain_first
from benchmarks.against_label_studio.tools import Item, Person

ROOT = Path(__file__).resolve().parent.parent.parent
WANTED = [f"{number}.jpg" for number in range(200)]


def test_the_same_order_correlates_fully_and_the_opposite_one_fully_against_it():
    assert rank_correlation(WANTED[:50], WANTED) == 1
    assert rank_correlation(WANTED[50:0:-1], WANTED) == -1


def test_a_random_order_does_not_correlate():
    came = random.Random(0).sample(WANTED, 100)

    assert abs(rank_correlation(came, WANTED)) < 0.2


def test_the_correlation_is_spearmans():
    # By hand: the squares of the differences of the ranks sum to 2, so 1 - 6 * 2 / (4 * 15).
    assert rank_correlation(["0.jpg", "7.jpg", "3.jpg", "9.jpg"], WANTED) == pytest.approx(0.8)


def test_an_image_that_comes_twice_counts_where_it_came_first():
    assert rank_correlation(["0.jpg", "1.jpg", "2.jpg", "0.jpg"], WANTED) == 1
    assert doubles(["0.jpg", "1.jpg", "2.jpg", "0.jpg", "0.jpg"]) == 2


def test_the_share_of_the_most_uncertain_looks_at_as_many_as_came():
    assert share_of_the_first(["1.jpg", "0.jpg"], WANTED) == 1
    assert share_of_the_first(["1.jpg", "2.jpg", "0.jpg", "4.jpg"], WANTED) == 0.75
    assert share_of_the_first([], WANTED) == 0


def test_the_image_whose_largest_probability_is_least_comes_first():
    said = {"sure": [0.9, 0.1], "unsure": [0.5, 0.5], "between": [0.3, 0.7]}

    assert most_uncertain_first(said) == ["unsure", "between", "sure"]


def test_a_figure_says_for_whom_it_is_better_and_where_we_are_worse():
    assert Pair("Next", 10, 45, tails=(20, 90)).cells == [
        "Next", "10 (20) ms", "45 (90) ms", "4.5 times better",
    ]  # fmt: skip
    assert Pair("Import", 45.5, 10).cells[-1] == "**4.55 times worse**"
    assert Pair("Labels a second", 30, 10, unit="", better="more").cells[1:] == [
        "30", "10", "3 times better",
    ]  # fmt: skip
    assert Pair("Correlation", 0.998, 0.02, unit="", better="").cells[-1] == ""


def test_only_answered_requests_have_a_time_and_the_others_are_counted():
    calls = [Call("next", 0.01, 200), Call("next", 0.03, 200), Call("next", 20, 0),
             Call("next", 5, 500), Call("submit", 1, 201)]  # fmt: skip

    pair = figures.times_of("Next", "next", calls, calls)

    assert (pair.ours, pair.tails) == (20, (30, 30))
    assert figures.n_failed(calls, "next", "submit") == 2


def test_the_table_has_a_row_for_each_figure():
    table = figures.as_markdown([Pair("Next", 10, 20), Pair("Submit", 5, 4)]).splitlines()

    assert [line.count("|") for line in table] == [5, 5, 5, 5]
    assert table[3] == "| Submit | 5 ms | 4 ms | **1.25 times worse** |"


class Shelf(Person):
    """Somebody who is given one image after another; the first request and label fail."""

    def __init__(self, names):
        self.names, self.failures = iter(names), {"next", "submit"}

    def next(self):
        if "next" in self.failures:
            self.failures.remove("next")
            return None
        return Item(next(self.names), "")

    def submit(self, item, class_name):
        assert class_name == "cat"
        if "submit" in self.failures:
            self.failures.remove("submit")
            return False
        return True


def test_people_try_again_what_failed_and_all_labels_are_noted():
    people = [Shelf(["0.jpg", "1.jpg"]), Shelf(["2.jpg", "3.jpg"])]

    stretch = label(people, 2, dict.fromkeys(WANTED, "cat"))

    assert sorted(stretch.served) == sorted(stretch.labels) == WANTED[:4]
    assert stretch.seconds > 0


def test_the_newest_version_is_the_one_pip_names_first():
    listed = "label-studio (1.23.2)\nAvailable versions: 1.23.2, 1.23.1\n"

    assert installing.newest_version(listed) == "1.23.2"
    with pytest.raises(installing.NotInstallableError, match="names no version"):
        installing.newest_version("")


def test_the_name_of_a_file_is_found_in_the_address_label_studio_gives_it():
    assert label_studio.file_name("/data/upload/1/1f2e3d4c-00012.jpg") == "00012.jpg"


def test_the_labeling_interface_takes_any_name_of_a_class():
    assert "<Choice value='a \"b\" &amp; c'/>" in label_studio.label_config(['a "b" & c', "d"])


def quiet(**changes):
    return {
        "n_images": 10, "n_embedded": 9, "n_embedding_failures": 1, "labels_until_round": 3,
        "round": {"state": "done"},
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [{"n_embedded": 8}, {"labels_until_round": 0}, {"round": {"state": "running"}}],
)
def test_the_other_program_does_not_begin_before_ours_is_quiet(changes):
    assert ours.is_quiet(quiet())
    assert ours.is_quiet(quiet(round=None))
    assert not ours.is_quiet(quiet(**changes))


def test_without_a_package_index_the_command_says_what_is_missing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.against_label_studio", "--cache", str(tmp_path)],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
            "PIP_RETRIES": "0",
        },
        capture_output=True,
        text=True,
    )

    assert done.returncode == 3, done.stderr
    assert "Label Studio cannot be installed" in done.stderr
    assert "Connect this machine to a package index" in done.stderr
    assert list(tmp_path.iterdir()) == []
