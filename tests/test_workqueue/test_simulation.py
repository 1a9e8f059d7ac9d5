import json
import tarfile

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image as Picture

from annotator.jobs.models import Pulse
from annotator.labeling.models import Project
from workqueue.curve_plot import Line, draw_curves
from workqueue.oracles import NoLabelledImagesError, read_oracle


def draw(path, colour, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 60, (48, 48, 3))
    Picture.fromarray((noise + np.array(colour)).clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    for name, colour in {"red": (190, 0, 0), "green": (0, 190, 0)}.items():
        for number in range(40):
            draw(tmp_path / name / f"{number}.png", colour, number)
    return tmp_path


def test_a_folder_per_class_is_read_also_from_a_tar(folder, tmp_path_factory):
    archive = tmp_path_factory.mktemp("tar") / "set.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, arcname="train")

    files = read_oracle(archive, unpack_into=tmp_path_factory.mktemp("unpacked"))

    assert {(file.class_name, file.split) for file in files} == {
        ("red", "train"),
        ("green", "train"),
    }
    assert len(files) == 80


def test_a_table_of_labels_is_read_with_its_splits(folder, tmp_path):
    (folder / "labels.csv").write_text(
        "file,label,split\nred/1.png,rot,train\ngreen/1.png,gruen,test\nmissing.png,rot,train\n"
    )

    files = read_oracle(folder, unpack_into=tmp_path / "unused")

    assert [(file.class_name, file.split) for file in files] == [
        ("rot", "train"),
        ("gruen", "test"),
    ]


def test_what_holds_no_labelled_pictures_says_what_is_expected(tmp_path):
    (tmp_path / "a.txt").write_text("no picture")

    with pytest.raises(NoLabelledImagesError, match="one folder per class"):
        read_oracle(tmp_path, unpack_into=tmp_path)
    with pytest.raises(NoLabelledImagesError, match="neither a folder"):
        read_oracle(tmp_path / "a.txt", unpack_into=tmp_path)


def test_a_plot_names_its_lines_and_escapes_what_is_written():
    drawn = draw_curves(
        [Line("a<b", [20, 40], [0.5, 0.75])], title="T & U", x_title="labels", y_title="accuracy"
    )

    assert "a&lt;b" in drawn
    assert "T &amp; U" in drawn
    assert drawn.count("<polyline") == 1


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_simulation_goes_through_the_real_queue_and_clears_up(folder, tmp_path, capsys):
    plot = tmp_path / "curve.svg"

    call_command(
        "simulate", str(folder), "--rounds=2", "--batch=10", "--images=60", "--test-images=20",
        "--heuristics", "margin", "random", f"--plot={plot}", "--json",
    )  # fmt: skip

    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert plot.read_text().startswith("<svg")
    assert [curve["heuristic"] for curve in result["curves"]] == ["margin", "random"]
    assert all(curve["accuracy"][-1] > 0.9 for curve in result["curves"])
    assert not Project.objects.filter(deleted_at=None).exists()
    assert Pulse.objects.count() == 0


@pytest.mark.django_db
def test_a_simulation_of_nothing_is_refused_in_words(tmp_path):
    with pytest.raises(CommandError, match="no labelled pictures"):
        call_command("simulate", str(tmp_path))
