import csv
import resource
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from annotator.ingest.decoding import RefusalError
from annotator.ingest.sandbox import DecoderPool


@pytest.fixture(scope="module")
def pool():
    started = DecoderPool(1)
    yield started
    started.close()


@pytest.fixture
def decode(pool, tmp_path):
    def run(source: Path):
        return pool.decode(source, tmp_path / "display.jpg", tmp_path / "thumbnail.jpg")

    return run


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty-file"),
        (b"<html><body>hello</body></html>", "not-an-image"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "svg-refused"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not-an-image"),
        (b"GIF89a/*<script>alert(1)</script>*/", "broken-image"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_code(decode, tmp_path, content, code):
    path = tmp_path / "file.jpg"
    path.write_bytes(content)

    with pytest.raises(RefusalError) as refused:
        decode(path)

    assert refused.value.code in {code, "truncated-image", "not-an-image"}
    assert refused.value.reason.endswith(".")


def test_a_picture_cut_short_is_refused(decode, tmp_path):
    whole = saved(tmp_path, Image.effect_noise((300, 200), 90).convert("RGB"), "a.jpg")
    whole.write_bytes(whole.read_bytes()[:2000])

    with pytest.raises(RefusalError) as refused:
        decode(whole)

    assert refused.value.code == "truncated-image"


def test_a_bomb_is_refused_from_its_header(decode, tmp_path):
    path = saved(tmp_path, Image.new("1", (13_300, 13_300)), "bomb.png")

    with pytest.raises(RefusalError) as refused:
        decode(path)

    assert refused.value.code == "too-many-pixels"


def test_a_child_that_dies_refuses_the_file_and_the_next_one_is_read(pool, decode, tmp_path):
    good = saved(tmp_path, Image.new("RGB", (40, 30), "red"), "good.png")
    decode(good)
    child = pool._idle.get()
    child.process.kill()
    child.process.poll = lambda: None
    pool._idle.put(child)

    with pytest.raises(RefusalError) as refused:
        decode(good)

    assert refused.value.code == "decoder-crashed"
    assert decode(good).width == 40


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F", "I"])
def test_every_kind_of_pixel_becomes_plain_rgb(decode, tmp_path, mode):
    grey = Image.linear_gradient("L").resize((64, 48))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey, dtype=np.uint16) * 257)
    else:
        image = grey.convert("RGB").convert(mode) if mode in {"P", "CMYK"} else grey.convert(mode)
    ending = "png" if mode in {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"} else "tiff"
    path = saved(tmp_path, image, f"a.{ending}")

    decoded = decode(path)

    with Image.open(tmp_path / "display.jpg") as shown:
        assert shown.mode == "RGB"
        assert shown.size == (64, 48) == (decoded.width, decoded.height)
        top, bottom = shown.getpixel((32, 1))[0], shown.getpixel((32, 46))[0]
        assert top < 60
        assert bottom > 190


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_shown_over_white(decode, tmp_path, mode):
    image = Image.new("RGBA", (20, 600), (255, 0, 0, 0)).convert(mode)
    options = {"transparency": image.getpixel((0, 0))} if mode == "P" else {}

    decode(saved(tmp_path, image, "a.png", **options))

    with Image.open(tmp_path / "display.jpg") as shown:
        for row in (10, 300, 599):
            assert min(shown.getpixel((10, row))) > 245


@pytest.mark.parametrize("size", [(10_000, 1), (1, 10_000)])
def test_a_line_one_pixel_thin_stays_one_pixel_thin(decode, tmp_path, size):
    decoded = decode(saved(tmp_path, Image.new("RGB", size, "red"), "line.png"))

    assert (decoded.width, decoded.height) == size
    for name in ("display.jpg", "thumbnail.jpg"):
        with Image.open(tmp_path / name) as rendition:
            assert sorted(rendition.size) == [1, 2048]


def test_sixteen_bits_in_the_other_byte_order_are_scaled_and_not_clipped(decode, tmp_path):
    grey = Image.linear_gradient("L").resize((64, 48))
    deep = Image.fromarray((np.asarray(grey, dtype=np.uint16) * 257).astype(">u2"))
    assert deep.mode == "I;16B"

    decode(saved(tmp_path, deep, "a.tif"))

    with Image.open(tmp_path / "display.jpg") as shown:
        assert shown.getpixel((32, 1))[0] < 20
        assert 110 < shown.getpixel((32, 24))[0] < 145
        assert shown.getpixel((32, 46))[0] > 235


@pytest.mark.slow
def test_a_transparent_picture_as_large_as_the_stated_limit_is_taken(decode, tmp_path):
    large = Image.new("RGBA", (10_000, 10_000), (255, 0, 0, 128))

    decoded = decode(saved(tmp_path, large, "large.png", compress_level=1))

    assert (decoded.width, decoded.height) == (10_000, 10_000)


def test_only_the_first_frame_of_an_animation_is_taken_and_that_is_said(decode, tmp_path):
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue", "green")]
    path = tmp_path / "a.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])

    decoded = decode(path)

    assert decoded.note == "First of 3 frames."


def test_the_thumbnail_has_the_short_side_the_backbone_wants(decode, tmp_path):
    path = saved(tmp_path, Image.new("RGB", (3000, 1500), "blue"), "a.jpg")

    decoded = decode(path)

    assert (decoded.width, decoded.height) == (3000, 1500)
    with Image.open(tmp_path / "thumbnail.jpg") as thumbnail:
        assert thumbnail.size == (512, 256)
    with Image.open(tmp_path / "display.jpg") as display:
        assert display.size == (2048, 1024)


def test_renditions_carry_no_metadata(decode, tmp_path):
    exif = Image.Exif()
    exif[0x8825] = {1: "N", 2: (52.0, 30.0, 0.0)}
    exif[0x010F] = "a camera"
    path = saved(tmp_path, Image.new("RGB", (50, 40)), "a.jpg", exif=exif)

    decode(path)

    for name in ("display.jpg", "thumbnail.jpg"):
        with Image.open(tmp_path / name) as rendition:
            assert not rendition.getexif()


def test_every_exif_orientation_ends_upright(decode, tmp_path, shared_data):
    with tarfile.open(shared_data / "exif_orientation.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    shown = {}
    for shape in ("Landscape", "Portrait"):
        for orientation in range(9):
            path = next(tmp_path.rglob(f"{shape}_{orientation}.jpg"))
            decoded = decode(path)
            with Image.open(tmp_path / "display.jpg") as display:
                pixels = np.asarray(display.convert("L").resize((48, 48)), dtype=float)
            shown[shape, orientation] = (decoded.width > decoded.height, pixels)

    for (shape, orientation), (is_wide, pixels) in shown.items():
        assert is_wide == (shape == "Landscape"), (shape, orientation)
        difference = np.abs(pixels - shown[shape, 1][1]).mean()
        assert difference < 12, (shape, orientation, difference)


@pytest.mark.slow
def test_no_hostile_file_of_the_collection_harms_the_parent(decode, tmp_path, shared_data):
    with tarfile.open(shared_data / "nasty_images.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    (table,) = tmp_path.rglob("expected.csv")
    with table.open(newline="") as opened:
        files = [table.parent / row["file"] for row in csv.DictReader(opened)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    outcomes, reasons = [], {}
    for file in files:
        try:
            decode(file)
        except RefusalError as refused:
            outcomes.append(refused.code)
            reasons[file.relative_to(table.parent).as_posix()] = refused.reason
        else:
            outcomes.append("taken")

    assert len(outcomes) == len(files) > 400
    assert not [reason for reason in reasons.values() if "Error" in reason]
    for name in ("shapes/10000x1.png", "shapes/1x10000.png", "bombs/rgba_9400x9400.png"):
        assert f"made/{name}" not in reasons
    assert not [name for name in reasons if "/16bit.MM." in name]
    assert outcomes.count("taken") > 150
    assert outcomes.count("decoder-crashed") < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024
