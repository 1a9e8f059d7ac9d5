"""What the browser tests share."""

import time

CLASSES = ("hat", "pants", "shoes")


def sign_in(page, installation) -> None:
    page.goto(f"{installation.address}/login/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", installation.password)
    page.click("main button")
    page.wait_for_url(f"{installation.address}/")


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return found
