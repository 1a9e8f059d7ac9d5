import ast
import re
from pathlib import Path

from django.apps import apps

import annotator.operations.checks  # noqa: F401 - fills the doctor's registry
import annotator_client
from annotator.api.problems import FRAMEWORK_CODES
from annotator.operations import doctor
from annotator_client import Client, Project, Task
from workqueue.heuristics import HEURISTICS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def test_every_setting_of_the_environment_is_in_the_table():
    used = set(
        re.findall(
            r'environment\.(?:text|flag|numbers?|items)\(\s*"([A-Z0-9_]+)"',
            (ROOT / "annotator" / "settings.py").read_text(),
        )
    ) | {"SECRET_KEY"}
    table = (DOCS / "operations.md").read_text()

    missing = [name for name in sorted(used) if f"`ANNOTATOR_{name}`" not in table]

    assert missing == []


def test_every_model_is_in_the_glossary():
    glossary = (DOCS / "glossary.md").read_text()
    ours = (
        "accounts", "api", "events", "exports", "ingest", "jobs", "labeling", "webhooks",
        "workqueue",
    )  # fmt: skip
    models = [model.__name__ for label in ours for model in apps.get_app_config(label).get_models()]

    assert [name for name in models if f"**{name}**" not in glossary] == []


def test_every_method_and_every_exception_of_the_client_is_in_its_manual():
    manual = (DOCS / "client.md").read_text()
    methods = {
        name for kind in (Client, Project, Task) for name in vars(kind) if not name.startswith("_")
    } - {"close", "transport"}
    errors = {name for name in annotator_client.__all__ if name.endswith("Error")} - {"FieldError"}

    assert [name for name in sorted(methods) if not re.search(rf"\b{name}\b", manual)] == []
    assert [name for name in sorted(errors) if f"`{name}`" not in manual] == []


def test_every_heuristic_has_its_chapter():
    chapters = (DOCS / "heuristics.md").read_text()

    assert [e["title"] for e in HEURISTICS if f"## {e['title']}" not in chapters] == []


def test_every_benchmark_stands_in_the_table_of_figures():
    figures = (DOCS / "benchmarks.md").read_text()
    modules = (ROOT / "benchmarks").glob("[a-z]*.py")
    commands = [path.stem for path in modules if "def main()" in path.read_text()]

    assert [name for name in commands if f"benchmarks.{name}" not in figures] == []


def test_every_check_of_the_doctor_is_in_the_table():
    table = (DOCS / "operations.md").read_text().split("## Doctor")[1].split("## Backup")[0]

    assert [name for name in doctor.names() if name not in table] == []


def _problems_of(path):
    """Yield (status, code) of every problem a module can raise; both are literals."""
    # A class that stands for one problem names both where it begins.
    calls = {"Problem", "super().__init__"} if "(Problem)" in path.read_text() else {"Problem"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in calls:
            status = ast.unparse(node.args[0]).rpartition("HTTP_")[2][:3]
            if status == "err":  # what the framework raises, listed below
                continue
            if ast.unparse(node.args[1]) == "error.code":  # an address that is refused, likewise
                continue
            assert isinstance(node.args[1], ast.Constant), f"{path.name}:{node.lineno}"
            yield int(status), node.args[1].value


def test_every_error_code_is_in_the_table_and_the_table_has_no_other():
    modules = [p for folder in ("annotator", "queue") for p in (ROOT / folder).rglob("*.py")]
    raised = {problem for path in modules for problem in _problems_of(path)}
    raised |= set(FRAMEWORK_CODES.items())
    addresses = (ROOT / "annotator" / "outbound" / "addresses.py").read_text()
    raised |= {(422, code) for code in re.findall(r'RefusedError\("([a-z-]+)"', addresses)}
    table = (DOCS / "api.md").read_text().split("## Errors")[1].split("## ")[0]

    listed = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \|", table, re.MULTILINE)

    assert sorted((int(status), code) for code, status in listed) == sorted(raised)


def test_links_between_documents_lead_somewhere():
    for path in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} -> {target}"


def test_every_promise_of_the_queue_is_in_the_table_and_every_test_named_there_exists():
    table = (DOCS / "reliability.md").read_text()
    promises = re.findall(r"^\| (Q-\d\d) \|", table, re.MULTILINE)
    here = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    in_the_browser = "\n".join(path.read_text() for path in (ROOT / "tests" / "js").glob("*.js"))

    assert promises == [f"Q-{number:02}" for number in range(1, 25)]
    named = re.findall(r"`(test_\w+)`", table)
    assert len(named) > 40
    assert [name for name in named if f"def {name}(" not in here] == []
    sentences = re.findall(r'"([^"\n]+)"', table)
    assert [name for name in sentences if f'test("{name}"' not in in_the_browser] == []
    for line in table.splitlines():
        if line.startswith("| Q-"):
            said = ("`test_", "the machine", "not yet", "not applicable until")
            assert any(words in line for words in said), line
