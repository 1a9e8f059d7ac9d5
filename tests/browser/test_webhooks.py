import pytest
from browser_kit import wait_for
from receiver_kit import Reply
from standardwebhooks import Webhook as Verifier

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]


@pytest.fixture
def empty_project(api):
    made = api("POST", "projects/", name="Hooks", classes=[{"name": "cat"}])
    yield made
    api("DELETE", f"projects/{made['id']}/")


@pytest.fixture(autouse=True)
def _fresh(receiver):
    receiver.got.clear()
    receiver.reply = lambda _: Reply()


def test_a_lead_adds_a_webhook_copies_its_secret_and_sees_a_test_arrive(
    page, installation, receiver, empty_project
):
    page.goto(f"{installation.address}/projects/{empty_project['id']}/settings/")
    page.click("text=Manage webhooks")
    page.fill("#url-new", "https://10.0.0.1/hook")
    page.click("text=Add the webhook")
    page.wait_for_selector("[data-api-error]")
    assert "not on the public internet" in page.inner_text("[data-api-error]")

    page.fill("#url-new", receiver.url)
    page.click("text=Add the webhook")
    page.wait_for_selector("#secret-new", state="visible")
    secret = page.input_value("#secret-new")
    page.get_by_role("link", name="Done", exact=True).click()
    page.click("text=Send a test")

    page.wait_for_selector("text=Delivered", timeout=30_000)
    got = next(got for got in receiver.got if b"webhook.test" in got.body)
    assert Verifier(secret).verify(got.body, got.headers)["type"] == "webhook.test"
    assert page.locator("[data-secret]:not([hidden])").count() == 0


def test_a_lead_sees_why_a_delivery_failed_sends_it_again_and_switches_the_webhook_off(
    page, installation, receiver, empty_project, api
):
    receiver.reply = lambda _: Reply(500, body=b"out of order")
    url = f"{receiver.url}/this-test"
    hook = api(
        "POST", f"projects/{empty_project['id']}/webhooks/", url=url,
        events=["class.added"],
    )  # fmt: skip
    api("POST", f"projects/{empty_project['id']}/classes/", name="dog")
    wait_for(lambda: receiver.got)
    page.on("dialog", lambda dialog: dialog.accept())

    page.goto(f"{installation.address}/projects/{empty_project['id']}/settings/webhooks/")
    page.wait_for_selector("text=The receiver answered 500.")
    page.click("text=What it answered")
    assert page.inner_text(".answer") == "out of order"
    receiver.reply = lambda _: Reply()
    page.click("text=Send again")
    page.wait_for_selector("text=Delivered", timeout=30_000)
    page.click("text=Switch off")
    page.wait_for_selector("text=Switch on")

    assert len({got.headers["webhook-id"] for got in receiver.got if "this" in got.path}) == 1
    assert api("GET", f"webhooks/{hook['id']}/")["is_active"] is False


def test_a_lead_chooses_the_events_of_a_webhook(page, installation, receiver, empty_project, api):
    page.goto(f"{installation.address}/projects/{empty_project['id']}/settings/webhooks/")
    page.fill("#url-new", receiver.url)
    page.uncheck("[data-all]")
    page.check("input[value='round.done']")
    page.check("input[value='annotation.created']")
    page.click("text=Add the webhook")
    page.wait_for_selector("#secret-new", state="visible")

    (hook,) = api("GET", f"projects/{empty_project['id']}/webhooks/")["results"]
    assert hook["events"] == ["annotation.created", "round.done"]


def test_pictures_are_added_by_web_address(page, installation, receiver, photos, empty_project):
    photo = photos["hat"][0].read_bytes()
    receiver.reply = lambda got: Reply(body=photo) if "good" in got.path else Reply(404)
    base = f"http://127.0.0.1:{receiver.port}"

    page.goto(f"{installation.address}/projects/{empty_project['id']}/images/")
    page.click("text=Add by web address")
    page.fill("#addresses", f"{base}/good.jpg\n{base}/missing.jpg\n")
    page.click("text=Fetch them")
    page.wait_for_selector("text=Finished: 1 added, 1 refused.", timeout=60_000)

    assert "The server answered 404." in page.inner_text("address-panel .upload-refused")
    assert sorted(got.path for got in receiver.got) == ["/good.jpg", "/missing.jpg"]
