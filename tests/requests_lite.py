"""Just enough of an HTTP client for the browser tests."""

import json
import urllib.error
import urllib.request
import uuid
from pathlib import Path


def _send(method: str, url: str, cookies: dict[str, str], data: bytes | None, kind: str):
    request = urllib.request.Request(url, data=data, method=method)
    request.add_header("Cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()))
    request.add_header("X-CSRFToken", cookies.get("csrftoken", ""))
    request.add_header("Referer", url)
    request.add_header("Content-Type", kind)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {url}: {error.code} {error.read().decode()}") from error
    return json.loads(text) if text else None


def call(method: str, url: str, cookies: dict[str, str], body: dict | None = None):
    data = None if method == "GET" else json.dumps(body or {}).encode()
    return _send(method, url, cookies, data, "application/json")


def upload(url: str, cookies: dict[str, str], files: list[Path]):
    boundary = uuid.uuid4().hex
    parts = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; '
        f'filename="{path.name}"\r\nContent-Type: image/jpeg\r\n\r\n'.encode()
        + path.read_bytes()
        + b"\r\n"
        for path in files
    )
    body = parts + f"--{boundary}--\r\n".encode()
    return _send("POST", url, cookies, body, f"multipart/form-data; boundary={boundary}")
