"""Milliseconds from a key press to the next image on the glass, in a real Chromium.

python -m benchmarks.ui_latency --address URL --user NAME --password-file FILE --project ID [--json]

Labels images of a running installation (with the first class: use a project to spare).
"""

import argparse
import shutil
import statistics
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from benchmarks.setting import finish

PAUSE_MS = 700


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", default="http://127.0.0.1:8000")
    parser.add_argument("--user", default="admin")
    parser.add_argument("--password-file", type=Path, required=True)
    parser.add_argument("--project", type=int, required=True)
    parser.add_argument("--labels", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        times = measure(page, options)
        browser.close()
    result = {
        "labels": len(times),
        "median_ms": round(statistics.median(times), 1),
        "p95_ms": round(sorted(times)[int(len(times) * 0.95) - 1], 1),
        "max_ms": round(max(times), 1),
    }
    print(f"key press -> next image painted: {result}")
    finish(result, as_json=options.json)


def measure(page: Page, options: Any) -> list[float]:
    """Return the time of each label in milliseconds, as the page itself measured it."""
    page.goto(f"{options.address}/login/")
    page.fill("#id_username", options.user)
    page.fill("#id_password", options.password_file.read_text().strip())
    page.click("main button")
    page.goto(f"{options.address}/projects/{options.project}/label/")
    page.wait_for_selector("[data-image][src]")
    for _ in range(options.labels):
        page.wait_for_timeout(PAUSE_MS)
        page.keyboard.press("1")
    page.wait_for_timeout(PAUSE_MS)
    times: list[float] = page.evaluate(
        "performance.getEntriesByName('label:next-image').map(entry => entry.duration)"
    )
    return times


if __name__ == "__main__":
    main()
