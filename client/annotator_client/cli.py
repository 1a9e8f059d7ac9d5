"""The command ``annotator``: what scripts and people do most, without writing a program."""

import argparse
import json
import logging
import os
import shlex
import subprocess
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from annotator_client import uploading
from annotator_client.client import Client
from annotator_client.errors import AnnotatorError, ForbiddenError, NotSignedInError
from annotator_client.progress import Progress
from annotator_client.project import Project
from annotator_client.queueing import Task
from annotator_client.results import Event, FileResult
from annotator_client.tables import Probabilities, labels_of, probabilities_of
from annotator_client.transport import PATIENCE_S

DONE, SOME_REFUSED, USAGE, REFUSED, INTERRUPTED = 0, 1, 2, 3, 130
STATUS_TEXT = """exit status: 0 done; 1 done, but something was refused or left over; 2 wrong
options; 3 the server refused or does not answer; 130 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    options = _parser().parse_args(arguments)
    try:
        with Client(options.url, options.token, patience_s=options.patience) as client:
            run: Callable[[Client, argparse.Namespace], int] = options.run
            return run(client, options)
    except NotSignedInError:
        return _fail("The token is not valid. Make one on your account page, and set it.")
    except ForbiddenError as error:
        return _fail(f"{error} A lead can give you another role or token.")
    except AnnotatorError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # Whoever reads us has seen enough (`annotator watch … | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        return _fail(f"{error.filename or 'A file'}: {error.strerror or error}.")
    except KeyboardInterrupt:
        _fail("Interrupted. The same command goes on where it was.")
        return INTERRUPTED


def _fail(sentence: str) -> int:
    sys.stderr.write(f"annotator: {sentence}\n")
    return REFUSED


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="annotator", description="Work with an Annotator server.", epilog=STATUS_TEXT
    )
    parser.add_argument("--url", default="", help="of the server; or ANNOTATOR_URL")
    parser.add_argument("--token", default="", help="better in ANNOTATOR_TOKEN: others see options")
    parser.add_argument(
        "--patience", type=float, default=PATIENCE_S, metavar="SECONDS",
        help=f"how long a server that is away or busy is tried again ({PATIENCE_S:g})",
    )  # fmt: skip
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listed = commands.add_parser("projects", help="list your projects")
    listed.set_defaults(run=_projects)

    sent = _command(commands, "upload", _upload, "add pictures; the same again goes on")
    sent.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files and folders")
    sent.add_argument("--threads", type=int, default=4, help="requests at once (4)")
    sent.add_argument(
        "--create", action="store_true", help="make the project if there is none of that name"
    )
    sent.add_argument("--class", dest="classes", action="append", default=[], metavar="NAME",
                      help="a class of a project that is made; once for each")  # fmt: skip

    labeled = _command(commands, "label", _label, "label in the browser, from a file, by a program")
    how = labeled.add_mutually_exclusive_group()
    how.add_argument("--with", dest="table", type=Path, metavar="FILE.csv",
                     help="columns file_name and class; images not in it are skipped")  # fmt: skip
    how.add_argument("--command", help="run for each image with the path of its picture; "
                     "it prints the class, or nothing to skip")  # fmt: skip
    labeled.add_argument("--limit", type=int, help="stop after so many images")

    exported = _command(commands, "export", _export, "download the labels")
    exported.add_argument("--format", default="csv", help="csv, coco, … (csv)")
    exported.add_argument("--output", "-o", type=Path, help="file to write")

    predicted = _command(commands, "predict", _predict, "post a model's probabilities")
    predicted.add_argument("table", type=Path, metavar="FILE", help=".csv or .npz")
    predicted.add_argument("--model", required=True, help="its name")
    predicted.add_argument("--order", action="store_true", help="let it order the queue")

    watched = _command(commands, "watch", _watch, "tell what happens, as it happens")
    watched.add_argument("--after", type=int, help="begin after this event (0: from the start)")
    watched.add_argument("--json", action="store_true", help="one JSON object a line")
    watched.add_argument("--until", metavar="KIND", help="end after such an event: round.done")
    return parser


def _command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[Client, argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("project", metavar="PROJECT", help="its number or its name")
    parser.set_defaults(run=run)
    return parser


def _project(client: Client, which: str) -> Project:
    return client.project(int(which) if which.isascii() and which.isdigit() else which)


def _projects(client: Client, _: argparse.Namespace) -> int:
    for project in client.projects():
        info = project.info
        _say(f"{info.id:>6}  {info.n_labelled:>8} of {info.n_images:>8} labelled  {info.name}")
    return DONE


def _upload(client: Client, options: argparse.Namespace) -> int:
    files = uploading.files_of(options.paths)
    names = {project.name for project in client.projects()} if options.create else None
    if names is not None and options.project not in names:
        project = client.create_project(options.project, options.classes)
        _say(f"Made the project {project.name} ({project.id}).")
    else:
        project = _project(client, options.project)
    with Progress("Upload", len(files), "files") as progress:

        def told(result: FileResult) -> None:
            progress.add()
            if result.result == "rejected":
                progress.say(f"refused {result.path}: {result.reason}")

        done = project.upload(files, threads=options.threads, on_result=told)
    _say(f"{project.name}: {done.summary}.")
    return SOME_REFUSED if done.rejected else DONE


def _label(client: Client, options: argparse.Namespace) -> int:
    project = _project(client, options.project)
    if options.table is None and options.command is None:
        _say(f"Label at {project.page}")
        webbrowser.open(project.page)
        return DONE
    known = labels_of(options.table) if options.table else {}
    n_labelled = n_skipped = 0
    with Progress("Label", project.info.n_images - project.info.n_labelled, "images") as progress:
        for task in project.queue():
            classes = known.get(task.image.file_name, [])
            if options.command:
                classes = _answer_of(options.command, task)
            if classes:
                task.submit(classes)
                n_labelled += 1
            else:
                task.skip()
                n_skipped += 1
            progress.add()
            if options.limit and n_labelled + n_skipped >= options.limit:
                break
    _say(f"{project.name}: {n_labelled} labelled, {n_skipped} skipped.")
    return SOME_REFUSED if n_skipped else DONE


def _answer_of(command: str, task: Task) -> list[str]:
    """Return what a program says of a picture: a class a line, or nothing.

    Raises:
        AnnotatorError: it cannot be run, or ends with an error.
    """
    with tempfile.TemporaryDirectory(prefix="annotator-") as folder:
        picture = Path(folder) / "picture.jpg"
        picture.write_bytes(task.picture())
        try:
            done = subprocess.run(  # noqa: S603 - the command the person gave
                [*shlex.split(command), str(picture)],
                capture_output=True,
                text=True,
                check=True,
            )
        except OSError as error:
            raise AnnotatorError(f"“{command}” cannot be run: {error.strerror}.") from error
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or ["it says nothing"])[-1]
            raise AnnotatorError(
                f"“{command}” failed at {task.image.file_name}: {last}. Nothing was sent for it."
            ) from error
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _export(client: Client, options: argparse.Namespace) -> int:
    project = _project(client, options.project)
    target = project.export(options.format, options.output)
    _say(f"{project.name}: written to {target}.")
    return DONE


def _predict(client: Client, options: argparse.Namespace) -> int:
    table = probabilities_of(options.table)
    project = _project(client, options.project)
    names, rows, unknown = _named_for(project, table)
    with Progress("Predict", len(names), "images") as progress:
        done = project.predict(
            options.model, names, rows, classes=table.classes, on_progress=progress.add
        )
    _say(
        f"{project.name}: {options.model} predicts {done.n_created} images for the first time, "
        f"{done.n_updated} anew; {len(done.rejected) + unknown} are not in the project."
    )
    if options.order:
        ordered = project.order_by(options.model)
        _say(f"Round {ordered.number}: the queue follows {options.model}. {ordered.note}".strip())
    return SOME_REFUSED if done.rejected or unknown else DONE


def _named_for(project: Project, table: Probabilities) -> tuple[list[int | str], Any, int]:
    """Return what the server knows the images by, their rows, and how many file names none has."""
    if table.kind != "file_name":
        return list(table.images), table.rows, 0
    named = {image.file_name: image.id for image in project.images()}
    places = [place for place, name in enumerate(table.images) if name in named]
    ids: list[int | str] = [named[str(table.images[place])] for place in places]
    return ids, [table.rows[place] for place in places], len(table.images) - len(places)


def _watch(client: Client, options: argparse.Namespace) -> int:
    project = _project(client, options.project)
    after = options.after
    if after is None:
        # From now on: what was is skipped.
        after = max((event.id for event in project.events()), default=0)
    for event in project.events(after, follow=True):
        _say(_as_json(event) if options.json else _as_line(event))
        if options.until == event.kind:
            return DONE
    return DONE


def _as_json(event: Event) -> str:
    return json.dumps(
        {
            "id": event.id,
            "kind": event.kind,
            "actor": event.actor_name,
            "at": event.at.isoformat(),
            "payload": event.payload,
        }
    )


def _as_line(event: Event) -> str:
    at = event.at.astimezone().strftime("%H:%M:%S")
    said = ", ".join(f"{name} {value}" for name, value in event.payload.items())
    return f"{at}  {event.kind:<24} {event.actor_name or '':<16} {said}"[:200].rstrip()
