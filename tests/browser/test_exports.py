import csv
import hashlib
import zipfile

import pytest
from browser_kit import CLASSES, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture
def labelled(project, api, truth):
    """Four images of the project have their true label."""
    claimed = api("POST", f"projects/{project['id']}/queue/claim/", n=4, client="test")
    ids = {entry["name"]: entry["id"] for entry in project["classes"]}
    said = {}
    for lease in claimed["leases"]:
        image = lease["image"]
        name = truth[image["file_name"]]
        api(
            "POST", f"projects/{project['id']}/queue/submit/", key=lease["token"],
            lease=lease["token"], class_ids=[ids[name]],
        )  # fmt: skip
        said[image["file_name"]] = name
    return said


def download(page, title):
    row = page.locator("[data-exports] tr", has_text=title)
    row.get_by_role("link", name="Download").wait_for(timeout=60_000)
    with page.expect_download() as started:
        row.get_by_role("link", name="Download").click()
    return started.value


def test_a_lead_exports_a_table_and_the_pictures_and_downloads_both(
    page, installation, project, labelled, photos
):
    page.goto(f"{installation.address}/projects/{project['id']}/images/")
    page.get_by_role("link", name="Export", exact=True).click()
    page.wait_for_selector("text=Nothing was exported yet.")
    page.click("text=Start the export")
    table = download(page, "CSV")
    page.check("input[value=folders]")
    page.select_option("#pictures", "originals")
    page.click("text=Start the export")
    folders = download(page, "Folders")

    with open(table.path(), newline="") as opened:  # noqa: PTH123
        rows = list(csv.DictReader(opened))
    assert {row["file_name"]: row["classes"] for row in rows} == labelled
    assert table.suggested_filename.endswith("-csv.csv")
    originals = {
        hashlib.sha256(path.read_bytes()).hexdigest() for name in CLASSES for path in photos[name]
    }
    with zipfile.ZipFile(folders.path()) as archive:
        pictures = [name for name in archive.namelist() if "/" in name]
        assert sorted(name.partition("/")[0] for name in pictures) == sorted(labelled.values())
        for name in pictures:
            assert hashlib.sha256(archive.read(name)).hexdigest() in originals


def test_an_export_is_deleted_on_the_page(page, installation, project, api):
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{installation.address}/projects/{project['id']}/exports/")
    page.check("input[value=jsonl]")
    page.check("input[name=history]")
    page.click("text=Start the export")
    page.get_by_role("button", name="Delete").wait_for(timeout=60_000)
    (export,) = api("GET", f"projects/{project['id']}/exports/")["results"]
    assert (export["format"], export["history"]) == ("jsonl", True)

    page.get_by_role("button", name="Delete").click()
    page.wait_for_selector("text=Nothing was exported yet.")

    wait_for(lambda: not api("GET", f"projects/{project['id']}/exports/")["results"])
