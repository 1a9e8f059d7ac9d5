import pytest
from browser_kit import CLASSES, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


def test_a_project_is_made_on_one_page_and_every_file_gets_its_answer(
    page, photos, installation, tmp_path, api
):
    bad = tmp_path / "broken.jpg"
    bad.write_bytes(b"this is no picture")
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(photos["hat"][0].read_bytes())
    files = [*photos["hat"][:6], *photos["shoes"][:6], bad, copy]

    page.goto(f"{installation.address}/projects/new/")
    page.fill("#name", "Made by hand")
    rows = page.locator("[data-class-name]")
    for index, name in enumerate(CLASSES):
        rows.nth(index).fill(name)
    page.set_input_files("[data-files]", files)
    page.click("[data-create]")
    page.wait_for_selector(".upload-refused")

    assert "not a picture" in page.inner_text(".upload-refused")
    page.click("[data-continue]")
    page.wait_for_url("**/images/")
    made = api("GET", "projects/")["results"][0]
    assert made["name"] == "Made by hand"
    assert [entry["hotkey"] for entry in made["classes"]] == ["1", "2", "3"]
    assert made["n_images"] == 12
    assert page.locator(".tile").count() == 12


def test_a_project_without_a_name_or_with_equal_classes_is_told_what_to_mend(page, installation):
    page.goto(f"{installation.address}/projects/new/")
    page.click("[data-create]")
    assert page.inner_text("[data-error='name']") == "Give the project a name."

    page.fill("#name", "X")
    page.locator("[data-class-name]").nth(0).fill("cat")
    page.locator("[data-class-name]").nth(1).fill("Cat")
    page.click("[data-create]")
    assert "two classes called" in page.inner_text("[data-error='classes']")


def test_a_pasted_list_of_classes_fills_the_empty_rows_first(page, installation):
    page.goto(f"{installation.address}/projects/new/")
    page.focus("[data-class-name] >> nth=0")
    page.evaluate(
        """() => {
          const clipboardData = new DataTransfer();
          clipboardData.setData("text", "dress\\nhat\\nshoes\\ncoat");
          const more = { clipboardData, bubbles: true, cancelable: true };
          document.activeElement.dispatchEvent(new ClipboardEvent("paste", more));
        }"""
    )

    rows = page.locator(".class-row")
    shown = rows.evaluate_all(
        "r => r.map(x => [...x.querySelectorAll('[type=text]')].map(f => f.value))"
    )
    assert shown == [["dress", "1"], ["hat", "2"], ["shoes", "3"], ["coat", "4"]]


def test_a_project_without_classes_says_so_and_leads_to_the_settings(page, installation, api):
    made = api("POST", "projects/", name="No classes", classes=[])
    page.goto(f"{installation.address}/projects/{made['id']}/label/")
    page.click(".class-list-none >> text=Add classes")
    page.wait_for_url("**/settings/#classes")
    api("DELETE", f"projects/{made['id']}/")


@pytest.mark.parametrize("width", [390, 1440])
def test_what_people_need_is_inside_the_screen(page, project, installation, api, width):
    page.set_viewport_size({"width": width, "height": 800})
    api("POST", "tokens/", name="A program with a long name that says what it is for")
    for path, needed in (
        (f"/projects/{project['id']}/people/", "text=Remove"),
        (f"/projects/{project['id']}/progress/", ".table-stacks .badge"),
        ("/account/", "button:text-is('Revoke')"),
        ("/", "[data-theme-toggle]"),
    ):
        page.goto(installation.address + path)
        box = page.locator(needed).first.bounding_box()
        assert box["x"] >= 0, path
        assert box["x"] + box["width"] <= width, path
        wide = "document.documentElement.scrollWidth"
        assert page.evaluate(wide) <= width, path
    page.goto(f"{installation.address}/projects/{project['id']}/label/")
    page.wait_for_selector("[data-image][src]")
    page.keyboard.press("s")
    for reason in page.locator("[data-skip-reasons] button").all():
        assert reason.evaluate("b => b.scrollWidth <= b.clientWidth")
    dialog = page.locator("[data-dialog='skip']")
    assert dialog.evaluate("d => d.scrollWidth <= d.clientWidth")


def test_a_zip_is_uploaded_unpacked_and_counted(page, project, installation, tmp_path, api):
    import zipfile

    from PIL import Image

    archive = tmp_path / "more.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for number in range(5):
            path = tmp_path / f"{number}.png"
            Image.new("RGB", (50, 50), (number * 40, 0, 90)).save(path)
            opened.write(path, f"folder/{number}.png")
        opened.writestr("readme.txt", "hello")
    before = api("GET", f"projects/{project['id']}/")["n_images"]

    page.goto(f"{installation.address}/projects/{project['id']}/images/")
    page.set_input_files("[data-files]", archive)
    page.wait_for_selector("[data-sum]:has-text('5 added')", timeout=60_000)

    assert "1 refused" in page.inner_text("[data-sum]")
    assert api("GET", f"projects/{project['id']}/")["n_images"] == before + 5


def test_more_refusals_than_the_page_shows_are_in_the_downloaded_list(
    page, project, installation, tmp_path
):
    import zipfile

    archive = tmp_path / "bad.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for number in range(130):
            opened.writestr(f"day/{number}.jpg", b"<html>")

    page.goto(f"{installation.address}/projects/{project['id']}/images/")
    page.set_input_files("[data-files]", archive)
    page.wait_for_selector("[data-list]:visible", timeout=60_000)
    with page.expect_download() as download:
        page.click("[data-list]")

    assert "130 refused" in page.inner_text("[data-sum]")
    assert page.inner_text("[data-problems] li:last-child") == "and 30 more"
    lines = download.value.path().read_text("utf-8-sig").splitlines()
    assert len(lines) == 131
    assert lines[-1].startswith('bad.zip,day/129.jpg,refused,"This is not a picture')


def test_a_lead_changes_the_heuristic_and_sees_the_order_change(page, project, installation, api):
    page.goto(f"{installation.address}/projects/{project['id']}/queue/")
    before = page.locator(".upcoming img").evaluate_all("images => images.map(i => i.alt)")

    page.click("summary:has-text('Without a model')")
    page.check("[value='none']")
    page.fill("#batch_size", "7")
    page.click("text=Save")
    page.wait_for_selector(".history >> text=batch_size")
    assert page.locator(".upcoming img").evaluate_all("i => i.map(x => x.alt)") == before
    page.click("[data-rerank]")

    def reordered():
        try:
            now = page.locator(".upcoming img").evaluate_all("i => i.map(x => x.alt)")
        except Exception:
            return False
        return now and now != before

    wait_for(reordered, 30)
    settings = api("GET", f"projects/{project['id']}/queue/settings/")
    assert (settings["heuristic"], settings["batch_size"]) == ("none", 7)


def test_unsaved_settings_survive_a_new_ranking_and_saving_says_so(
    page, project, installation, api
):
    page.goto(f"{installation.address}/projects/{project['id']}/queue/")
    page.fill("#batch_size", "9")
    page.click("[data-rerank]")
    page.wait_for_selector("[data-rerank-state]:has-text('Ready. Save or reload')", timeout=60_000)
    assert page.input_value("#batch_size") == "9"
    asked = []
    page.once("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.evaluate("setTimeout(() => location.assign('/'))")
    wait_for(lambda: page.wait_for_timeout(100) or asked)
    assert asked == ["beforeunload"]
    assert page.input_value("#batch_size") == "9"

    page.click("summary:has-text('One score per image')")
    page.check("[value='entropy']")
    page.click("button:text-is('Save')")
    page.wait_for_selector("[data-save-message]:has-text('Used from the next ranking on')")
    page.wait_for_timeout(1500)

    assert page.is_visible("[data-save-message]")
    assert page.inner_text("[data-next-ranking]") == "The next ranking uses Entropy."
    assert api("GET", f"projects/{project['id']}/queue/settings/")["batch_size"] == 9


def test_an_invited_person_joins_and_can_label_but_not_change_settings(
    page, project, installation, chromium
):
    page.goto(f"{installation.address}/projects/{project['id']}/people/")
    page.click("text=Create the link")
    page.wait_for_selector("[data-secret]:visible")
    link = page.input_value("#new-secret")

    guest = chromium.new_context().new_page()
    guest.goto(link)
    guest.fill("#id_username", f"guest{project['id']}")
    guest.fill("#id_password", "tulips in the rain")
    guest.click("text=Join the project")
    guest.wait_for_url("**/label/")

    assert guest.is_visible("[data-classes]")
    guest.goto(f"{installation.address}/projects/{project['id']}/queue/")
    assert guest.is_disabled("#batch_size")
    guest.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 1024, 390])
def test_no_page_is_wider_than_the_screen(chromium, project, installation, context, width, scheme):
    state = context.storage_state()
    looking = chromium.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, storage_state=state
    )
    page = looking.new_page()
    base = f"/projects/{project['id']}"
    for path in (
        "/", "/projects/new/", "/account/", "/system/", f"{base}/label/", f"{base}/images/",
        f"{base}/progress/", f"{base}/queue/", f"{base}/people/", f"{base}/settings/",
    ):  # fmt: skip
        page.goto(installation.address + path)
        excess = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert excess <= 0, path
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
    looking.close()
