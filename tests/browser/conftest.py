import os
import random
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests_lite
from browser_kit import CLASSES, sign_in, wait_for
from PIL import Image, ImageDraw
from playwright.sync_api import sync_playwright
from receiver_kit import Receiver

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = Path(os.environ.get("ANNOTATOR_TEST_DATA", ROOT.parent / "shared" / "data"))
PER_CLASS = 25


@dataclass
class Installation:
    """A running Annotator, started the way its users start it."""

    address: str
    password: str
    folder: Path
    process: subprocess.Popen

    def kill(self, child: str, number: int = signal.SIGKILL) -> None:
        pid = int((self.folder / "logs" / f"{child}.pid").read_text())
        os.kill(pid, number)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def receiver():
    """A server on this machine that the installation may connect to."""
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture(scope="session")
def installation(tmp_path_factory, receiver):
    folder = tmp_path_factory.mktemp("installation")
    port = free_port()
    output = folder / "output.txt"
    with output.open("w") as written:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "bin" / "run"), "--port", str(port), "--data", str(folder)],
            stdout=written,
            stderr=subprocess.STDOUT,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("ANNOTATOR_")},
                "ANNOTATOR_OUTBOUND_ALLOW": "127.0.0.1",
                "ANNOTATOR_OUTBOUND_PORTS": f"443,{receiver.port}",
            },
        )
    try:
        deadline = time.monotonic() + 120
        while "Annotator is at" not in output.read_text():
            assert process.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.2)
        password = re.search(r"password\s+(\S+)", output.read_text()).group(1)
        yield Installation(f"http://127.0.0.1:{port}", password, folder, process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> dict[str, list[Path]]:
    """Real photos of three classes where the image sets are at hand, drawn shapes elsewhere."""
    folder = tmp_path_factory.mktemp("photos")
    archive = DATA / "clothing10.tar"
    if not archive.is_file():
        return {name: _drawn(folder, name) for name in CLASSES}
    with tarfile.open(archive) as tar:
        members = [m for m in tar.getmembers() if any(f"train/{c}/" in m.name for c in CLASSES)]
        tar.extractall(folder, members=members, filter="data")
    found = {name: sorted(folder.rglob(f"train/{name}/*.jpg")) for name in CLASSES}
    return {name: files[:PER_CLASS] for name, files in found.items()}


def _drawn(folder: Path, name: str) -> list[Path]:
    files = []
    for number in range(PER_CLASS):
        rng = random.Random(f"{name}{number}")
        picture = Image.new("RGB", (320, 320), tuple(rng.randrange(256) for _ in range(3)))
        pen = ImageDraw.Draw(picture)
        x, y, size = rng.randrange(20, 120), rng.randrange(20, 120), rng.randrange(80, 180)
        box = (x, y, x + size, y + size)
        {
            "hat": lambda pen=pen, box=box: pen.ellipse(box, fill="white"),
            "pants": lambda pen=pen, box=box: pen.rectangle(box, fill="white"),
            "shoes": lambda pen=pen, box=box: pen.polygon(
                [box[:2], (box[2], box[1]), box[2:]], fill="white"
            ),
        }[name]()
        files.append(folder / f"{name}-{number}.png")
        picture.save(files[-1])
    return files


@pytest.fixture(scope="session")
def truth(photos) -> dict[str, str]:
    return {path.name: name for name, files in photos.items() for path in files}


@pytest.fixture(scope="session")
def chromium():
    program = os.environ.get("ANNOTATOR_TEST_CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


@pytest.fixture
def context(chromium, installation):
    """A signed-in browser that fails the test on any script error."""
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    errors = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    sign_in(context.new_page(), installation)
    yield context
    context.close()
    assert errors == []


@pytest.fixture
def page(context):
    return context.pages[0]


@pytest.fixture
def api(context, installation):
    """Call the API as the signed-in person."""

    def call(method, path, **body):
        cookies = {c["name"]: c["value"] for c in context.cookies()}
        return requests_lite.call(
            method, f"{installation.address}/api/v1/{path}", cookies, body or None
        )

    return call


@pytest.fixture
def project(api, photos, installation, context):
    """A fresh project with the photos in it, embedded and ranked."""
    made = api(
        "POST",
        "projects/",
        name="Photos",
        classes=[{"name": name, "hotkey": str(i)} for i, name in enumerate(CLASSES, 1)],
    )
    cookies = {c["name"]: c["value"] for c in context.cookies()}
    files = [path for files in photos.values() for path in files]
    requests_lite.upload(
        f"{installation.address}/api/v1/projects/{made['id']}/images/", cookies, files
    )
    wait_for(lambda: api("GET", f"projects/{made['id']}/queue/status/")["ranking"], 90)
    yield made
    api("DELETE", f"projects/{made['id']}/")
