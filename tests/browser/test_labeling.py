import signal

import pytest
from browser_kit import CLASSES, sign_in, wait_for

# How many labels the browser keeps until the server has them
KEPT = """new Promise((resolve) => {
  indexedDB.open("annotator", 1).onsuccess = (opened) => {
    const count = opened.target.result.transaction("outbox").objectStore("outbox").count();
    count.onsuccess = () => resolve(count.result);
  };
})"""

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture
def label_page(page, project, installation):
    page.goto(f"{installation.address}/projects/{project['id']}/label/")
    page.wait_for_selector("[data-image][src]")
    return page


def shown(page) -> str:
    return page.inner_text("[data-file-name]")


# A key is pressed again by a person no sooner than so long after an image has come.
HUMAN_MS = 400


def press(page, key) -> None:
    """Press a key at human speed and wait for another image."""
    page.wait_for_timeout(HUMAN_MS)
    before = shown(page)
    page.keyboard.press(key)
    page.wait_for_function(
        "before => document.querySelector('[data-file-name]').textContent !== before", arg=before
    )


def label_right(page, truth, n=1) -> list[str]:
    names = []
    for _ in range(n):
        name = shown(page)
        names.append(name)
        press(page, str(CLASSES.index(truth[name]) + 1))
    return names


def is_saved(page) -> bool:
    return page.inner_text("[data-save-state]") == "Saved"


def n_labelled(api, project) -> int:
    return api("GET", f"projects/{project['id']}/")["n_labelled"]


def test_thirty_images_by_keyboard_bring_a_model_and_another_order(label_page, api, project, truth):
    status = api("GET", f"projects/{project['id']}/queue/status/")
    assert status["ranking"]["kind"] == "coverage"

    seen = label_right(label_page, truth, 30)

    assert len(set(seen)) == 30
    wait_for(lambda: is_saved(label_page))
    assert n_labelled(api, project) == 30
    status = wait_for(
        lambda: (s := api("GET", f"projects/{project['id']}/queue/status/"))["model"] and s
    )
    assert status["ranking"]["kind"] == "heuristic"
    ranked = api("GET", f"projects/{project['id']}/queue/ranking/")["results"]
    best = ranked[0]["image"]["file_name"]
    wait_for(lambda: "New order" in label_page.inner_text("[data-banner-ranking]"))
    upcoming = label_right(label_page, truth, 4)
    assert best in upcoming
    assert label_page.is_visible("[data-suggestion]") or label_page.is_visible("[data-why]")


def test_enter_accepts_the_suggestion_of_the_model(label_page, api, project, truth):
    label_right(label_page, truth, 20)
    wait_for(lambda: api("GET", f"projects/{project['id']}/queue/status/")["model"])
    wait_for(lambda: "New order" in label_page.inner_text("[data-banner-ranking]"))
    label_right(label_page, truth)
    while not label_page.is_visible("[data-suggestion]"):
        label_right(label_page, truth)
    suggested = label_page.inner_text("[data-suggestion-name]")

    press(label_page, "Enter")

    wait_for(lambda: is_saved(label_page))
    mine = api("GET", f"projects/{project['id']}/annotations/mine/")["results"][0]
    classes = {entry["id"]: entry["name"] for entry in project["classes"]}
    assert [classes[pk] for pk in mine["class_ids"]] == [suggested]


def test_undo_brings_the_image_back_and_takes_the_label_out(label_page, api, project, truth):
    first, second = label_right(label_page, truth, 2)
    wait_for(lambda: n_labelled(api, project) == 2)

    label_page.keyboard.press("z")
    wait_for(lambda: shown(label_page) == second)
    label_page.keyboard.press("Control+z")
    wait_for(lambda: shown(label_page) == first)

    assert n_labelled(api, project) == 0
    label_right(label_page, truth, 2)
    wait_for(lambda: n_labelled(api, project) == 2)


def test_a_skipped_image_goes_with_its_reason_and_does_not_come_back(
    label_page, api, project, truth
):
    skipped = shown(label_page)

    label_page.keyboard.press("s")
    label_page.wait_for_selector("[data-dialog='skip'][open]")
    press(label_page, "2")

    wait_for(lambda: is_saved(label_page))
    assert skipped not in label_right(label_page, truth, 8)
    events = api("GET", f"projects/{project['id']}/events/")["results"]
    assert any(
        event["kind"] == "image.skipped" and event["payload"]["reason"] == "bad_image"
        for event in events
    )


def test_undo_right_after_a_skip_shows_the_skipped_image_again(label_page, api, project, truth):
    label_right(label_page, truth)
    skipped = shown(label_page)
    label_page.keyboard.press("s")
    label_page.wait_for_selector("[data-dialog='skip'][open]")
    press(label_page, "1")
    wait_for(lambda: is_saved(label_page))

    label_page.keyboard.press("z")

    wait_for(lambda: shown(label_page) == skipped)
    assert n_labelled(api, project) == 1
    label_right(label_page, truth)
    wait_for(lambda: n_labelled(api, project) == 2)


def test_an_earlier_label_can_be_looked_at_and_changed(label_page, api, project, truth):
    first, _ = label_right(label_page, truth, 2)
    wait_for(lambda: is_saved(label_page))
    current = shown(label_page)

    label_page.keyboard.press("ArrowLeft")
    label_page.keyboard.press("ArrowLeft")
    assert shown(label_page) == first
    label_page.wait_for_timeout(HUMAN_MS)
    wrong = (CLASSES.index(truth[first]) + 1) % 3
    label_page.keyboard.press(str(wrong + 1))
    label_page.wait_for_selector(".toast:has-text('Label changed')")
    label_page.keyboard.press("ArrowRight")

    wait_for(lambda: shown(label_page) == current)
    mine = api("GET", f"projects/{project['id']}/annotations/mine/")["results"]
    changed = next(entry for entry in mine if entry["image"]["file_name"] == first)
    assert changed["action"] == "edit"
    assert n_labelled(api, project) == 2


def test_labels_given_offline_survive_a_closed_tab_and_arrive_once(
    context, label_page, api, project, truth, installation
):
    label_right(label_page, truth)
    wait_for(lambda: is_saved(label_page))
    context.set_offline(True)

    label_right(label_page, truth, 3)
    wait_for(lambda: "Offline" in label_page.inner_text("[data-save-state]"))
    wait_for(lambda: label_page.evaluate(KEPT) == 3)
    assert n_labelled(api, project) == 1
    label_page.close()
    context.set_offline(False)

    again = context.new_page()
    again.goto(f"{installation.address}/projects/{project['id']}/label/")
    again.wait_for_selector("[data-image][src]")

    wait_for(lambda: n_labelled(api, project) == 4)
    again.wait_for_timeout(500)
    assert n_labelled(api, project) == 4


def test_twenty_labels_the_server_did_not_take_survive_a_closed_tab_and_arrive_once(
    context, label_page, api, project, truth, installation
):
    context.route("**/queue/submit/", lambda route: route.abort())
    n = 19  # and the last one, after which no other image comes
    given = label_right(label_page, truth, n)
    last = shown(label_page)
    label_page.wait_for_timeout(HUMAN_MS)
    label_page.keyboard.press(str(CLASSES.index(truth[last]) + 1))
    wait_for(lambda: label_page.evaluate(KEPT) == n + 1)
    assert n_labelled(api, project) == 0
    label_page.close()
    context.unroute("**/queue/submit/")

    again = context.new_page()
    again.goto(f"{installation.address}/projects/{project['id']}/label/")

    wait_for(lambda: n_labelled(api, project) == n + 1)
    again.wait_for_timeout(500)
    mine = api("GET", f"projects/{project['id']}/annotations/mine/")["results"]
    in_order = [entry["image"]["file_name"] for entry in reversed(mine)]
    assert in_order == [*given, last]


def test_an_expired_login_loses_nothing(context, label_page, api, project, truth, installation):
    label_right(label_page, truth)
    wait_for(lambda: n_labelled(api, project) == 1)
    context.clear_cookies(name="sessionid")

    label_right(label_page, truth, 2)
    label_page.wait_for_selector("[data-banner-login]:visible")
    assert "2 labels are" in label_page.inner_text("[data-banner-login]")
    sign_in(context.new_page(), installation)

    wait_for(lambda: n_labelled(api, project) == 3)
    wait_for(lambda: is_saved(label_page))
    assert not label_page.is_visible("[data-banner-login]")


def test_two_tabs_never_show_the_same_image(context, label_page, project, truth, installation):
    other = context.new_page()
    other.goto(f"{installation.address}/projects/{project['id']}/label/")
    other.wait_for_selector("[data-image][src]")

    # A tab that is not in front paints nothing, and nobody labels what is not painted.
    label_page.bring_to_front()
    here = label_right(label_page, truth, 6)
    other.bring_to_front()
    there = label_right(other, truth, 6)

    assert not set(here) & set(there)


def test_a_double_click_and_a_held_key_label_one_image(label_page, api, project):
    label_page.dblclick("[data-class]")
    wait_for(lambda: is_saved(label_page))
    after_click = n_labelled(api, project)
    label_page.wait_for_timeout(HUMAN_MS)
    label_page.keyboard.down("1")
    for _ in range(5):
        label_page.keyboard.down("1")
    label_page.keyboard.up("1")
    wait_for(lambda: is_saved(label_page))
    label_page.wait_for_timeout(300)

    assert after_click == 1
    assert n_labelled(api, project) == 2


@pytest.mark.parametrize("pause", [0, 60, 150])
def test_a_bounced_key_labels_one_image(label_page, api, project, pause):
    label_page.keyboard.press("1")
    label_page.wait_for_timeout(pause)
    label_page.keyboard.press("1")
    label_page.wait_for_timeout(HUMAN_MS)
    wait_for(lambda: is_saved(label_page))
    assert n_labelled(api, project) == 1

    press(label_page, "1")
    label_page.wait_for_timeout(150)
    press(label_page, "2")
    wait_for(lambda: n_labelled(api, project) == 3)


def test_a_killed_worker_costs_no_round(label_page, api, project, truth, installation):
    label_right(label_page, truth, 19)
    wait_for(lambda: n_labelled(api, project) == 19)
    installation.kill("worker-learning", signal.SIGKILL)

    label_right(label_page, truth, 1)

    status = wait_for(
        lambda: (s := api("GET", f"projects/{project['id']}/queue/status/"))["model"] and s, 120
    )
    assert status["round"]["state"] == "done"


def test_a_killed_web_process_costs_no_label(label_page, api, project, truth, installation):
    label_right(label_page, truth, 2)
    installation.kill("web", signal.SIGKILL)

    label_right(label_page, truth, 2)

    def arrived():
        try:
            return n_labelled(api, project) == 4
        except (AssertionError, OSError):
            return False

    wait_for(arrived, 60)


def test_the_image_can_be_zoomed_moved_and_brightened_by_keys(label_page):
    def transform():
        return label_page.evaluate("document.querySelector('[data-image]').style.transform")

    fitted = transform()
    label_page.keyboard.press("+")
    zoomed = transform()
    label_page.keyboard.press("Shift+ArrowLeft")
    moved = transform()
    label_page.keyboard.press("]")
    brighter = label_page.evaluate("document.querySelector('[data-image]').style.filter")
    label_page.keyboard.press("r")

    assert len({fitted, zoomed, moved}) == 3
    assert "brightness(110%)" in brighter
    assert transform() == fitted
    assert label_page.evaluate("document.querySelector('[data-image]').style.filter") == ""


@pytest.mark.parametrize(
    ("key", "name", "closing"),
    [("?", "help", "?"), ("?", "help", "Enter"), ("i", "instructions", "i")],
)
def test_the_key_that_opened_a_dialog_and_enter_close_it(
    label_page, api, project, key, name, closing
):
    label_page.keyboard.press(key)
    label_page.wait_for_selector(f"[data-dialog='{name}'][open]")
    label_page.keyboard.press(closing)
    label_page.wait_for_selector(f"[data-dialog='{name}']", state="hidden")
    label_page.keyboard.press(key)
    label_page.wait_for_selector(f"[data-dialog='{name}'][open]")
    assert n_labelled(api, project) == 0


def test_a_key_that_a_closed_dialog_still_receives_is_the_pages(label_page):
    # The focus can stay in a dialog until the frame after it closed.
    label_page.evaluate(
        """() => document.querySelector("[data-dialog='help'] button").dispatchEvent(
             new KeyboardEvent("keydown", { key: "i", bubbles: true, cancelable: true }))"""
    )
    label_page.wait_for_selector("[data-dialog='instructions'][open]", timeout=5_000)


def test_help_and_instructions_open_and_close_by_keys(label_page):
    for key, name in (("?", "help"), ("i", "instructions")):
        label_page.keyboard.press(key)
        label_page.wait_for_selector(f"[data-dialog='{name}'][open]")
        label_page.keyboard.press("Escape")
        label_page.wait_for_selector(f"[data-dialog='{name}']", state="hidden")
