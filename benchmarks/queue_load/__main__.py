"""Many people labeling at once, on a real installation, against the targets.

python -m benchmarks.queue_load [--scenario NAME ...] [--database sqlite|postgresql|both]
    [--images N] [--seconds N] [--cache DIR] [--quick] [--markdown] [--json]

Web server, workers, PostgreSQL and Redis are real ones of this machine, started as bin/run starts
them; the people are threads of a process of their own that send what the labeling page sends. The
rows are generated, and the images are links to a few pictures.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.queue_load.figures import Figure, as_markdown, as_text
from benchmarks.queue_load.stock import Stock, make
from benchmarks.setting import finish

DATABASES = ["postgresql", "sqlite"]
DIM = 1280
WRONG_SHOWN = 20


def main() -> int:
    """Measure and print; return 1 when something was wrong or a target was missed."""
    options = parse()
    say = partial(print, flush=True)
    with tempfile.TemporaryDirectory(prefix="annotator-stock-") as spare:
        cache = options.cache.resolve() if options.cache else None
        stock = stock_of(options, cache or Path(spare))
        began = time.monotonic()
        make(stock)
        say(f"pictures and embeddings: {time.monotonic() - began:.0f} s")
        if options.database == "both":
            result = both(options, stock.folder.parent)
        else:
            result = one(options, stock, cache, say)
    show(result, as_table=as_markdown if options.markdown else as_text)
    finish(result, as_json=options.json)
    figures = [Figure(**_fields(entry)) for entry in result["figures"]]
    return 1 if result["wrong"] or any(figure.is_met is False for figure in figures) else 0


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--scenario", nargs="+", metavar="NAME", help="LOAD-01 … LOAD-13, drain, mini"
    )
    parser.add_argument("--database", choices=[*DATABASES, "both"], default="both")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=30, help="of each load")
    parser.add_argument("--zip", type=int, default=10_000, help="pictures of the imported zip")
    parser.add_argument("--cache", type=Path, help="keep rows, pictures and embeddings here")
    parser.add_argument("--quick", action="store_true", help="50,000 images, 10 s, 500 in the zip")
    parser.add_argument("--markdown", action="store_true", help="print the table for the docs")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.images, options.seconds, options.zip = 50_000, 10, 500
    return options


def is_mini(options: argparse.Namespace) -> bool:
    """Whether only the short load of the test suite is wanted."""
    return bool(options.scenario == ["mini"])


def stock_of(options: argparse.Namespace, root: Path) -> Stock:
    """Return what is to be on disk."""
    wanted = options.scenario or ["LOAD-06"]
    few = 1_000 if is_mini(options) else 10**9
    stock = Stock(
        folder=root,
        n_images=options.images,
        n_drained=min(5_000, options.images // 10, few),
        # Three quarters of it are done: 100,000 at full size.
        n_worn=min(133_336, options.images // 5, few),
        dim=DIM,
        n_zipped=options.zip if "LOAD-06" in wanted else 0,
    )
    return Stock(**{**vars(stock), "folder": root / f"stock-{stock.name}"})


def both(options: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Run the loads on each database, in processes of their own: Django knows one database."""
    results = []
    for database in DATABASES:
        command = [
            sys.executable, "-m", "benchmarks.queue_load", "--database", database, "--json",
            "--images", str(options.images), "--seconds", str(options.seconds),
            "--zip", str(options.zip), "--cache", str(root),
            *(["--scenario", *options.scenario] if options.scenario else []),
        ]  # fmt: skip
        results.append(_last_line(command))
    return {
        "images": options.images,
        "seconds": options.seconds,
        "figures": [entry for result in results for entry in result["figures"]],
        "wrong": [line for result in results for line in result["wrong"]],
    }


def _last_line(command: list[str]) -> dict[str, Any]:
    """Run a command, pass on what it says, and return the JSON of its last line."""
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if not line.startswith("{"):
                print(line, end="", flush=True)
            last = line
    if not last.startswith("{"):
        raise SystemExit(f"no figures came of {' '.join(command)}")
    found: dict[str, Any] = json.loads(last)
    return found


def one(
    options: argparse.Namespace, stock: Stock, cache: Path | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """Run the loads on one database."""
    from benchmarks.queue_load.installation import installed

    began = time.monotonic()
    with installed(
        stock, options.database, cache=cache, waits_for_workers=not is_mini(options)
    ) as installation:
        from benchmarks.queue_load import rows, scenarios

        say(f"{options.database} filled and started: {time.monotonic() - began:.0f} s")
        unknown = set(options.scenario or []) - {*scenarios.NAMES, scenarios.MINI}
        if unknown:
            raise SystemExit(f"no such load: {', '.join(sorted(unknown))}")
        site = scenarios.Site(
            installation, options.database, stock, rows.made(), seconds=options.seconds
        )
        outcome = scenarios.run(site, options.scenario or scenarios.NAMES, say)
    return {
        "images": options.images,
        "seconds": options.seconds,
        "figures": [figure.as_json() for figure in outcome.figures],
        "wrong": outcome.wrong,
    }


def show(result: dict[str, Any], *, as_table: Callable[[list[Figure]], str]) -> None:
    """Print the table, and what was wrong."""
    print(f"\n{result['images']:,} images, {result['seconds']:g} s a load\n")
    print(as_table([Figure(**_fields(entry)) for entry in result["figures"]]))
    for line in result["wrong"][:WRONG_SHOWN]:
        print(f"WRONG: {line}")
    if len(result["wrong"]) > WRONG_SHOWN:
        print(f"and {len(result['wrong']) - WRONG_SHOWN} more")


def _fields(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "is_met"}


if __name__ == "__main__":
    sys.exit(main())
