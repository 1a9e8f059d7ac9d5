"""Images per second from thumbnail files to stored rows, against its two parts alone.

python -m benchmarks.embedding [--source FOLDER_OR_TAR] [--images N] [--json]
"""

import argparse
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.setting import finish
from ml import backbones, efficientnet_lite, embedding_store, embeddings
from ml.parallel import on_every_core
from ml.pictures import preprocess

THREADS = 2
REPEATS = 3


def pictures(source: Path | None, n: int, folder: Path) -> tuple[list[Path], str]:
    """Return thumbnail files of real photos, or of noise where there are none."""
    if source is None or not source.exists():
        for index in range(n):
            noise = Image.effect_noise((256, 341), 60).convert("RGB")
            noise.save(folder / f"{index}.jpg", quality=90, subsampling=0)
        return sorted(folder.glob("*.jpg")), "noise (no photos given)"
    if source.is_file():
        with tarfile.open(source) as archive:
            archive.extractall(folder, filter="data")
        source = folder
    photos = sorted(source.rglob("*.jpg"))[:n]
    thumbnails = folder / "thumbnails"
    thumbnails.mkdir()
    for index, path in enumerate(photos):
        with Image.open(path) as photo:
            factor = min(1.0, 256 / min(photo.size))
            size = (round(photo.width * factor), round(photo.height * factor))
            small = photo.convert("RGB").resize(size)
            small.save(thumbnails / f"{index:06d}.jpg", quality=90, subsampling=0)
    return sorted(thumbnails.glob("*.jpg")), "photos"


def rate(n: int, work: Callable[[], Any]) -> float:
    """Return items per second of one run."""
    started = time.perf_counter()
    work()
    return n / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=Path)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files, kind = pictures(options.source, options.images, folder)
        result = measure(files, folder)
    print(f"{len(files)} thumbnails of {kind}, {THREADS} threads, best of {REPEATS}, images/s")
    for name, label in (
        ("forward_per_core", "onnxruntime, a call a core"),
        ("forward_all_cores", "onnxruntime, a call on all cores"),
        ("forward_torch", "torch"),
        ("decode", "decoding"),
        ("files_to_rows", "files to rows"),
        ("limit", "perfect overlap"),
    ):
        print(f"  {label:32} {result[name]:7.1f}")
    print(f"  ratio to the fastest forward pass: {result['ratio']:.2f}")
    print(f"  ratio to the limit of both on {THREADS} cores: {result['ratio_to_limit']:.2f}")
    finish(result, as_json=options.json)


def session_on_all_cores(file: Path) -> Callable[[Any], Any]:
    """Return the exported network with one call on all cores, the usual way to run it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})


def measure(files: list[Path], folder: Path) -> dict[str, float]:
    """Return the rates, measured in turn so that a slow moment hits all of them."""
    backbone = backbones.load_backbone(backbones.DEFAULT_BACKBONE, cache_dir=folder / "cache")
    weights = efficientnet_lite.weights_file()
    assert weights
    in_torch = backbones.torch_embed(efficientnet_lite.load_pretrained(weights), "cpu")
    on_all_cores = session_on_all_cores(next((folder / "cache").glob("*.onnx")))
    n = len(files)
    batch = np.zeros((embeddings.BATCH_SIZE, 3, 224, 224), np.float32)
    n_batches = max(n // embeddings.BATCH_SIZE, 1)
    rates: dict[str, list[float]] = {}

    def decode_one(path: Path) -> None:
        with Image.open(path) as image:
            preprocess(image, backbone.spec)

    def decode_all() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(decode_one, files))

    def embed_all() -> None:
        embedded = embeddings.embed_files(files, backbone, threads=THREADS)
        embedding_store.write_segment(folder / "segments", embedded.vectors)

    def forward(run: Callable[[Any], Any], times: int) -> None:
        for _ in range(times):
            run(batch)

    def forward_per_core() -> None:
        on_every_core(lambda _: backbone.embed(batch), range(n_batches), cores=THREADS)

    for _ in range(REPEATS):
        forwarded = n_batches * len(batch)
        for name, amount, work in (
            ("files_to_rows", n, embed_all),
            ("forward_per_core", forwarded, forward_per_core),
            ("forward_all_cores", forwarded, lambda: forward(on_all_cores, n_batches)),
            ("forward_torch", 2 * len(batch), lambda: forward(in_torch, 2)),
            ("decode", n, decode_all),
        ):  # fmt: skip
            rates.setdefault(name, []).append(rate(amount, work))
    best = {name: max(values) for name, values in rates.items()}
    fastest = max(rate for name, rate in best.items() if name.startswith("forward"))
    # Decoding and the forward pass share the same cores: this is what perfect overlap would give.
    best["limit"] = 1 / (1 / fastest + 1 / best["decode"])
    best["ratio"] = best["files_to_rows"] / fastest
    best["ratio_to_limit"] = best["files_to_rows"] / best["limit"]
    return best


if __name__ == "__main__":
    main()
