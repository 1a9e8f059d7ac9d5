"""What others do meanwhile: a lead releases, removes, archives, or saves something else."""

import pytest
from browser_kit import CLASSES, wait_for

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
HUMAN_MS = 400


@pytest.fixture
def guest(api, project, installation, chromium):
    """Another person's browser, a member of the project as annotator."""
    link = api("POST", f"projects/{project['id']}/invitations/", role="annotator")["url"]
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(link)
    page.fill("#id_username", f"gina{project['id']}")
    page.fill("#id_password", "tulips in the rain")
    page.click("text=Join the project")
    page.wait_for_selector("[data-image][src]")
    yield page
    context.close()


@pytest.fixture
def lead(page, project, installation):
    def open_page(name):
        page.goto(f"{installation.address}/projects/{project['id']}/{name}/")
        page.on("dialog", lambda dialog: dialog.accept())
        return page

    return open_page


def shown(page) -> str:
    return page.inner_text("[data-file-name]")


def label(page, truth) -> str:
    """Label the image on the screen at human speed; return its name."""
    page.wait_for_timeout(HUMAN_MS)
    name = shown(page)
    page.keyboard.press(str(CLASSES.index(truth[name]) + 1))
    page.wait_for_function(
        "before => document.querySelector('[data-file-name]').textContent !== before", arg=name
    )
    return name


def status(api, project):
    return api("GET", f"projects/{project['id']}/queue/status/")


def test_a_lease_released_by_a_lead_is_told_on_the_page_and_labeling_goes_on(
    guest, lead, api, project, truth
):
    label(guest, truth)
    wait_for(lambda: status(api, project)["n_labelled"] == 1)
    page = lead("queue")
    card = page.locator("[data-holders-card]")
    assert shown(guest) in card.inner_text()

    card.locator("button", has_text="Release").click()

    guest.wait_for_selector("[data-banner-problem]:visible", timeout=8000)
    assert "a lead released it" in guest.inner_text("[data-problem]")
    wait_for(lambda: "Nobody holds an image now." in card.inner_text())
    guest.wait_for_timeout(5000)
    # Nobody has moved: the open page takes nothing back.
    assert status(api, project)["n_leased"] == 0

    label(guest, truth)
    label(guest, truth)

    wait_for(lambda: status(api, project)["n_labelled"] == 3)
    assert not guest.is_visible("[data-banner-problem]")
    assert status(api, project)["n_leased"] > 0


def test_a_removed_persons_label_on_its_way_is_delivered_and_the_page_closes(
    guest, api, project, truth
):
    label(guest, truth)
    wait_for(lambda: status(api, project)["n_labelled"] == 1)
    members = api("GET", f"projects/{project['id']}/members/")["results"]
    gina = next(entry for entry in members if entry["username"].startswith("gina"))
    guest.context.set_offline(True)
    label(guest, truth)
    api("DELETE", f"projects/{project['id']}/members/{gina['user_id']}/")
    guest.context.set_offline(False)

    wait_for(lambda: guest.inner_text("[data-save-state]") == "Saved")

    assert "kept for its leads" in guest.inner_text("[data-problem]")
    wait_for(lambda: guest.inner_text("[data-empty-title]") == "This project is closed to you")
    (kept,) = api("GET", f"projects/{project['id']}/annotations/kept/")["results"]
    assert kept["outcome"] == "after_removal"
    assert status(api, project)["n_labelled"] == 1


def test_an_archived_project_closes_the_page_and_opens_it_again(
    guest, page, installation, api, project
):
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(installation.address)
    mine = page.locator(".project-card", has=page.locator(f"a[href='/projects/{project['id']}/']"))
    mine.locator("button", has_text="Archive").click()
    archived = page.locator(".archived")
    archived.wait_for()

    wait_for(lambda: guest.inner_text("[data-empty-title]") == "This project is closed to you")
    assert "is archived" in guest.inner_text("[data-empty-text]")
    archived.locator("tr", has=page.locator(f"form[action*='/{project['id']}/restore/']")).locator(
        "button"
    ).click()

    mine.wait_for()
    wait_for(lambda: guest.is_visible("[data-image][src]"), 30)


def test_a_deleted_image_and_a_deleted_class_are_restored_on_their_pages(lead, api, project):
    page = lead("images")
    before = api("GET", f"projects/{project['id']}/")["n_images"]
    page.locator("[data-tile]").first.click()
    name = page.inner_text("[data-viewer-name]")
    page.click("[data-viewer-delete]")
    wait_for(lambda: api("GET", f"projects/{project['id']}/")["n_images"] == before - 1)

    page.select_option("#status", "deleted")
    page.click(".filters button")
    page.locator("[data-tile]").first.click()
    assert page.inner_text("[data-viewer-name]") == name
    page.click("[data-viewer-restore]")
    wait_for(lambda: api("GET", f"projects/{project['id']}/")["n_images"] == before)

    page.goto(page.url.partition("images/")[0] + "settings/")
    page.locator("#classes button", has_text="Delete").first.click()
    page.locator("#deleted-classes").wait_for()
    page.locator("#deleted-classes button", has_text="Restore").click()
    page.locator("#deleted-classes").wait_for(state="detached")
    classes = api("GET", f"projects/{project['id']}/")["classes"]
    assert [entry["name"] for entry in classes] == list(CLASSES)


def test_of_two_leads_who_save_the_settings_neither_text_is_lost(
    page, context, installation, api, project
):
    where = f"{installation.address}/projects/{project['id']}/settings/"
    other = context.new_page()
    for opened in (page, other):
        opened.goto(where)
    mine, theirs = "Mind the ears. " * 8, "Mind the tail. " * 8
    other.fill("#name", "Pets")
    other.fill("#instructions", theirs)
    other.get_by_role("button", name="Save").click()
    wait_for(lambda: api("GET", f"projects/{project['id']}/")["name"] == "Pets")

    page.fill("#instructions", mine)
    page.get_by_role("button", name="Save").click()

    page.wait_for_selector("[data-conflict]")
    assert page.input_value("[data-conflict] textarea").strip() == theirs.strip()
    assert page.input_value("#instructions") == mine
    # Only they changed the name: it is taken over.
    assert page.input_value("#name") == "Pets"
    assert api("GET", f"projects/{project['id']}/")["instructions"].strip() == theirs.strip()
    page.get_by_role("button", name="Save").click()
    wait_for(lambda: api("GET", f"projects/{project['id']}/")["instructions"] == mine)
    assert api("GET", f"projects/{project['id']}/")["name"] == "Pets"
    page.wait_for_selector("[data-conflict]", state="hidden")
