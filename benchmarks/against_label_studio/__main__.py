"""The same work with Annotator and with the newest Label Studio, on one machine in one run.

python -m benchmarks.against_label_studio [--images N] [--labels N] [--people N]
    [--each N] [--database sqlite|postgresql|both] [--cache DIR] [--quick] [--json]

Label Studio is installed from the package index into a virtual environment of its own (kept below
``--cache``), in its newest version, and started by ``label-studio start`` with a data folder;
Annotator is started by ``bin/run``. One client asks both over HTTP on kept connections with a token
a person: upload the pictures, list them, post the predictions of a model outside and let them
drive the order (Label Studio: "Uncertainty sampling" with the largest probability as score;
Annotator: ``predictions_from`` with least confidence), then label: ask for the next image and
submit a label, first one person, then several at once, without a pause. The two take turns at every
step, and the one that does not work has nothing left to do in the background. The first labels and
the first listing only warm up. A database takes four to five minutes on two cores.

The settings are those of a new installation, but for these. Both: a project of one class an image.
Label Studio: the legacy API tokens are allowed, and what reports to or asks servers outside is off
(analytics, version check, Sentry). Annotator: nothing is drawn at random and near duplicates are
not spread (Label Studio does neither). Not the same: an import of Annotator decodes, checks and
hashes each picture and makes its smaller versions, and its workers embed it afterwards, which Label
Studio does not; Annotator trains every 20 labels while people label, which Label Studio does not;
Annotator's web server has two processes, ``label-studio start`` is one of Django's development
server (its container image has another one).

Exit codes: 0; 1 when Annotator lost, doubled or refused something or left the order; 3 when Label
Studio cannot be installed.
"""

import argparse
import platform
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import annotator
from benchmarks.against_label_studio import label_studio, ours
from benchmarks.against_label_studio.figures import Pair, as_markdown
from benchmarks.against_label_studio.installing import (
    NotInstallableError,
    Program,
    newest_installed,
)
from benchmarks.against_label_studio.pictures import pictures, predictions
from benchmarks.against_label_studio.work import Amount, Work
from benchmarks.setting import finish

DATABASES = ["sqlite", "postgresql"]
NOT_INSTALLABLE = 3


def main() -> int:
    """Measure and print."""
    options = parse()
    say = partial(print, flush=True)
    with tempfile.TemporaryDirectory(prefix="annotator-peer-") as spare:
        try:
            program = newest_installed(options.cache or Path(spare))
        except NotInstallableError as error:
            print(
                f"Label Studio cannot be installed, so there is nothing to compare with.\n{error}\n"
                "Connect this machine to a package index (pip's own settings are used); the first "
                "installation needs about 1 GB of disk.",
                file=sys.stderr,
            )
            return NOT_INSTALLABLE
        result = compare(options, program, Path(spare), say)
    show(result)
    finish(result, as_json=options.json)
    return 1 if result["wrong"] else 0


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--labels", type=int, default=60, help="of one person alone")
    parser.add_argument("--people", type=int, default=8, help="who label at once")
    parser.add_argument("--each", type=int, default=16, help="labels of each of them")
    parser.add_argument("--database", choices=[*DATABASES, "both"], default="both")
    parser.add_argument("--cache", type=Path, help="keep Label Studio here for the next time")
    parser.add_argument("--quick", action="store_true", help="200 images, 20 labels, 4 a person")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.images, options.labels, options.each = 200, 20, 4
    return options


def compare(
    options: argparse.Namespace, program: Program, spare: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Do the work with both on each database wanted, and return what came of it."""
    folder = spare / "pictures"
    folder.mkdir()
    found, what = pictures(options.images, folder)
    say(f"{len(found):,} {what}; Label Studio {program.version}")
    classes = sorted({picture.class_name for picture in found})
    said = predictions(found, classes)
    amount = Amount(options.labels, options.people, options.each)
    figures: dict[str, list[Pair]] = {}
    wrong: list[str] = []
    for database in DATABASES if options.database == "both" else [options.database]:
        say(f"{database}: starting both")
        with (
            ours.running(database, spare / f"annotator-{database}", classes) as mine,
            label_studio.running(program, database, spare / f"peer-{database}", classes) as peer,
        ):
            work = Work(mine, peer, found, said, say)
            figures[database] = work.do(amount)
            say(f"\n{database}\n\n{as_markdown(figures[database])}\n")
            wrong += [f"{database}: {line}" for line in work.wrong]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {
            "Annotator": annotator.__version__,
            "Label Studio": program.version,
            "Python": platform.python_version(),
        },
        "pictures": f"{len(found):,} {what}",
        "figures": {name: [pair.as_json() for pair in pairs] for name, pairs in figures.items()},
        "wrong": wrong,
    }


def show(result: dict[str, Any]) -> None:
    """Print what the tables are of, and what was wrong."""
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    print(f"{result['date']}, {versions}, {result['pictures']}; median (95th percentile)")
    for line in result["wrong"]:
        print(f"WRONG: {line}")


if __name__ == "__main__":
    sys.exit(main())
