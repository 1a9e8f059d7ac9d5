"""Each format, read back by a reader that is not ours and compared with the database."""

import csv
import hashlib
import io
import json
import tarfile
import zipfile
from collections import Counter

import pytest
from exports_kit import export_bytes, say, store_pictures
from factories import class_of, make_images, make_member, make_project

from annotator.exports.formats import FORMATS
from annotator.exports.formats.names import folder_names, picture_name, safe_name
from annotator.labeling.models import Annotation, Image, LabelClass, Project
from annotator.labeling.services import withdraw_annotation
from ml.torchvision_compat import torchvision

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def people(project):
    return [make_member(project, name=f"ann{number}") for number in range(3)]


@pytest.fixture
def labelled(project, people):
    """Six images: cat, dog, three opinions of one, a withdrawn label, and one without any."""
    images = make_images(project, 6)
    Project.objects.update(annotators_per_image=3)
    say(images[0], people[0], "cat")
    say(images[1], people[0], "dog", seconds=None)
    for person, name in zip(people, ("bird", "dog", "bird"), strict=True):
        say(images[2], person, name)
    say(images[3], people[1], "cat", served={"explored": True, "draw_probability": 0.25})
    withdraw_annotation(annotation=say(images[4], people[0], "cat"), actor=people[0])
    return images


@pytest.fixture
def several():
    """A project of several classes an image: two classes, none, and two opinions."""
    project = make_project(kind=Project.Kind.SEVERAL_CLASSES)
    Project.objects.filter(pk=project.pk).update(annotators_per_image=2)
    people = [make_member(project) for _ in range(2)]
    images = make_images(project, 3)
    say(images[0], people[0], "bird", "cat")
    say(images[1], people[0])
    say(images[2], people[0], "cat", "dog")
    say(images[2], people[1], "dog")
    return project, images


def rows_of(content):
    return list(csv.DictReader(io.StringIO(content.decode())))


def lines_of(content):
    return [json.loads(line) for line in content.decode().splitlines()]


def standing(project):
    """Return what the database says: annotation id -> image, author and class names."""
    return {
        said.pk: (
            said.image_id,
            f"user-{said.author_id}",
            [region.label_class.name for region in said.regions.all()],
        )
        for said in Annotation.objects.filter(image__project=project, is_current=True)
    }


# --- CSV --------------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_label_that_stands(project, labelled):
    rows = rows_of(export_bytes(project, "csv"))

    found = {
        int(row["annotation_id"]): (int(row["image_id"]), row["annotator"], [row["classes"]])
        for row in rows
    }
    assert found == standing(project)
    assert len(rows) == 6
    assert [row["consensus"] for row in rows if row["image_id"] == str(labelled[2].pk)] == [
        "bird", "bird", "bird",
    ]  # fmt: skip
    of_three = next(row for row in rows if row["image_id"] == str(labelled[2].pk))
    assert (of_three["agreement"], of_three["seconds"]) == ("0.6667", "1.5")
    drawn = next(row for row in rows if row["image_id"] == str(labelled[3].pk))
    assert (drawn["explored"], drawn["draw_probability"]) == ("1", "0.25")
    first = rows[0]
    assert first["sha256"] == labelled[0].sha256
    assert (first["heuristic"], first["score"], first["explored"]) == ("margin", "0.93", "0")


def test_the_table_of_several_classes_names_all_of_them(several):
    project, images = several

    rows = rows_of(export_bytes(project, "csv"))

    found = {int(row["annotation_id"]): row["classes"].split("; ") for row in rows}
    assert found == {pk: names or [""] for pk, (_, _, names) in standing(project).items()}
    cat, dog = class_of(project).pk, class_of(project, "dog").pk
    both = next(row for row in rows if row["image_id"] == str(images[2].pk))
    assert (both["class_ids"], both["consensus"]) == (f"{cat} {dog}", "cat; dog")
    assert both["agreement"] == "0.5"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_the_table_is_a_formula(project, labelled, start):
    Image.objects.filter(pk=labelled[0].pk).update(file_name=f"{start}HYPERLINK(1)")
    LabelClass.objects.filter(project=project, name="dog").update(name=f"{start}1")

    rows = list(csv.reader(io.StringIO(export_bytes(project, "csv").decode(), newline="")))

    assert [cell for row in rows for cell in row if cell.startswith(start)] == []
    assert f"'{start}HYPERLINK(1)" in rows[1]
    assert f"'{start}1" in rows[2]


def test_people_are_numbers_until_names_are_asked_for(project, labelled):
    plain = {name: export_bytes(project, name) for name in ("csv", "jsonl", "label_studio")}

    for content in plain.values():
        assert b"ann0" not in content
    for name in plain:
        assert b"ann0" in export_bytes(project, name, names=True)


# --- JSON lines -------------------------------------------------------------------------------


def test_the_lines_hold_everything_that_is_known(project, labelled, people):
    lines = lines_of(export_bytes(project, "jsonl"))

    found = {
        label["id"]: (line["id"], label["annotator"], label["classes"])
        for line in lines
        for label in line["labels"]
    }
    assert found == standing(project)
    for line in lines:
        image = Image.objects.get(pk=line["id"])
        assert line["sha256"] == image.sha256
        assert (line["width"], line["height"]) == (image.width, image.height)
        for label in line["labels"]:
            said = Annotation.objects.get(pk=label["id"])
            assert label["served"] == said.served
            assert label["at"] == said.created_at.isoformat()
            assert label["outcome"] == said.outcome
    of_three = next(line for line in lines if line["id"] == labelled[2].pk)
    assert of_three["consensus"]["classes"] == ["bird"]
    assert "history" not in of_three


def test_the_history_is_there_when_it_is_asked_for(project, labelled):
    lines = lines_of(export_bytes(project, "jsonl", history=True, images="all"))

    found = {
        entry["id"]: (entry["action"], entry["stands"], entry["replaces"])
        for line in lines
        for entry in line["history"]
    }
    assert found == {
        said.pk: (said.action, said.is_current, said.replaces_id)
        for said in Annotation.objects.filter(image__project=project)
    }
    assert "withdraw" in {action for action, _, _ in found.values()}
    withdrawn = next(line for line in lines if line["id"] == labelled[4].pk)
    assert withdrawn["labels"] == []
    assert len(withdrawn["history"]) == 2


def test_the_filters_choose_the_images(project, labelled):
    def ids(**options):
        return [line["id"] for line in lines_of(export_bytes(project, "jsonl", **options))]

    Image.objects.filter(pk=labelled[0].pk).update(status="labelled")
    made = [image.pk for image in labelled]
    dog = class_of(project, "dog").pk

    assert ids() == made[:4]
    assert ids(images="all") == made
    assert ids(images="labelled") == [made[0], made[2]]
    assert ids(class_ids=[dog]) == [made[1], made[2]]


# --- Chosen at random, or by the queue ---------------------------------------------------------


def test_an_image_is_of_the_random_sample_up_to_the_first_open_one_of_the_random_list(
    project, labelled
):
    for image, place in zip(labelled, (3, 10, 1, 30, 20, 40), strict=True):
        Image.objects.filter(pk=image.pk).update(random_key=place)

    lines = lines_of(export_bytes(project, "jsonl", images="all"))
    (random_only, queue_only) = (
        [line["id"] for line in lines_of(export_bytes(project, "jsonl", chosen=chosen))]
        for chosen in ("random", "queue")
    )

    made = [image.pk for image in labelled]
    assert [line["id"] for line in lines if line["chosen"] == "random"] == made[:3]
    assert (random_only, queue_only) == (made[:3], made[3:4])


def test_the_random_sample_of_older_images_holds_while_new_ones_open_gaps(project, labelled):
    from workqueue.models import ModelVersion

    for place, image in enumerate(labelled, 10):
        Image.objects.filter(pk=image.pk).update(random_key=place)
    (new,) = make_images(project, 1)
    Image.objects.filter(pk=new.pk).update(random_key=1)
    ModelVersion.objects.create(
        project=project, number=1, backbone="b", class_ids=[], folder="f", sha256="", n_labels=4,
        metrics={"frame_until": labelled[-1].pk},
    )  # fmt: skip

    lines = lines_of(export_bytes(project, "jsonl"))

    assert [line["chosen"] for line in lines] == ["random"] * 4


# --- COCO -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def peers(shared_data):
    """Return a file that another tool wrote."""

    def read(path):
        with tarfile.open(shared_data / "peer_formats.tar") as tar:
            return json.load(tar.extractfile(f"peer_formats/{path}"))

    return read


def test_coco_says_what_most_people_say(project, labelled, people):
    coco = json.loads(export_bytes(project, "coco", images="all"))

    names = {entry["id"]: entry["name"] for entry in coco["categories"]}
    assert names == dict(project.classes.values_list("pk", "name"))
    said = {entry["image_id"]: names[entry["category_id"]] for entry in coco["annotations"]}
    made = [image.pk for image in labelled]
    assert said == {made[0]: "cat", made[1]: "dog", made[2]: "bird", made[3]: "cat"}
    assert [entry["id"] for entry in coco["images"]] == made
    assert [entry["id"] for entry in coco["annotations"]] == [1, 2, 3, 4]


def test_coco_of_several_classes_has_an_annotation_for_each(several):
    project, images = several

    coco = json.loads(export_bytes(project, "coco"))

    n_of_image = Counter(entry["image_id"] for entry in coco["annotations"])
    assert n_of_image == {images[0].pk: 2, images[2].pk: 2}
    assert len(coco["images"]) == 3


def test_coco_has_what_the_labels_of_other_tools_have(project, labelled, peers):
    theirs = peers("datumaro_assets/coco_dataset/coco_labels/annotations/labels_train.json")

    ours = json.loads(export_bytes(project, "coco"))

    assert set(ours) >= set(theirs)
    for part in ("categories", "annotations"):
        assert set(ours[part][0]) == set(theirs[part][0])
        types = {name: type(value) for name, value in theirs[part][0].items()}
        assert {name: type(value) for name, value in ours[part][0].items()} == types
    assert set(ours["images"][0]) >= {"id", "file_name", "width", "height"}


# --- Label Studio -----------------------------------------------------------------------------


def test_label_studio_gets_tasks_with_the_choices_of_everybody(project, labelled):
    tasks = json.loads(export_bytes(project, "label_studio"))

    found = {
        said["id"]: (task["id"], said["annotator"], said["result"][0]["value"]["choices"])
        for task in tasks
        for said in task["annotations"]
    }
    assert found == standing(project)
    assert tasks[0]["data"]["image"] == f"https://a.example/images/{labelled[0].key}/original"


def test_label_studio_gets_what_its_own_files_have(project, labelled, peers):
    (theirs,) = peers("label_studio_sdk/data/test_export_csv/csv_test2.json")

    ours = json.loads(export_bytes(project, "label_studio"))

    assert set(ours[0]) - {"created_at"} <= set(theirs)
    said, their_said = ours[0]["annotations"][0], theirs["annotations"][0]
    assert set(said) - {"annotator"} <= set(their_said)
    assert set(said["result"][0]) == set(their_said["result"][0])
    assert said["result"][0]["type"] == their_said["result"][0]["type"] == "choices"
    assert said["result"][0]["value"].keys() == their_said["result"][0]["value"].keys()
    for name in ("was_cancelled", "ground_truth", "lead_time", "created_at", "task"):
        assert type(said[name]) is type(their_said[name])


# --- Zips -------------------------------------------------------------------------------------


def unpacked(content, folder):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        archive.extractall(folder)
    return names


def test_torchvision_reads_the_folders_and_finds_the_originals(project, labelled, tmp_path):
    contents = store_pictures(labelled)

    names = unpacked(export_bytes(project, "folders"), tmp_path / "in")

    read = torchvision.datasets.ImageFolder(tmp_path / "in")
    assert read.classes == ["bird", "cat", "dog"]
    table = {row["path"]: row for row in rows_of((tmp_path / "in" / "labels.csv").read_bytes())}
    assert sorted([*table, "labels.csv"]) == sorted(names)
    found = {}
    for path, index in read.samples:
        row = table[str(path).removeprefix(f"{tmp_path}/in/")]
        with open(path, "rb") as opened:  # noqa: PTH123 - torchvision's paths are text
            content = opened.read()
        assert hashlib.sha256(content).hexdigest() == row["sha256"]
        assert content == contents[int(row["image_id"])]
        assert row["class"] == read.classes[index]
        found[int(row["image_id"])] = read.classes[index]
    made = [image.pk for image in labelled]
    assert found == {made[0]: "cat", made[1]: "dog", made[2]: "bird", made[3]: "cat"}


def test_hostile_names_stay_inside_and_no_two_are_one_file(project, tmp_path):
    names = [
        "../../up",
        "CON",
        "a/b",
        "Cat",
        "cat",
        "e\u0301",
        "\u00e9",
        ".hidden",
        "x. ",
        "a\\b",
        "Labels.csv",
    ]
    author = make_member(project)
    LabelClass.objects.filter(project=project).delete()
    for position, name in enumerate(names):
        LabelClass.objects.create(project=project, name=name, colour="#112233", position=position)
    images = make_images(project, len(names))
    store_pictures(images)
    Image.objects.filter(project=project).update(file_name="../../etc/passwd.png")
    for image, name in zip(images, names, strict=True):
        say(image, author, name)

    listed = unpacked(export_bytes(project, "folders"), tmp_path / "in")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["exports", "in"]
    assert len({name.casefold() for name in listed}) == len(listed) == len(names) + 1
    folders = {name.partition("/")[0] for name in listed}
    assert len(folders) == len(names) + 1
    for folder in folders:
        assert folder not in {"CON", "..", "."}
        assert not folder.startswith(".")
        assert not folder.endswith((" ", "."))
        assert not set(folder) & set('<>:"/\\|?*')
    table = rows_of((tmp_path / "in" / "labels.csv").read_bytes())
    assert sorted(row["class"] for row in table) == sorted(names)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cat", "cat"),
        ("e\u0301", "\u00e9"),
        ("..", "other"),
        ("", "other"),
        ("///", "other"),
        ("aux", "_aux"),
        ("Com1.txt", "_Com1.txt"),
        ("lpt¹", "_lpt¹"),
        ("console", "console"),
        ("a\u202eb\x00c", "abc"),
        ("猫" * 100, "猫" * 40),
        ("trailing. .", "trailing"),
    ],
)
def test_a_name_is_safe_on_every_system(text, name):
    assert safe_name(text, "other") == name


def test_folders_differ_in_more_than_upper_and_lower_case():
    classes = [{"id": number, "name": name} for number, name in enumerate(("A", "a", "a-1", "A-1"))]

    folders = folder_names(classes)

    assert len({name.casefold() for name in folders.values()}) == 4
    assert picture_name("x.tar.gz", 7, "jpg") == "x.tar-7.jpg"


def test_renditions_are_given_when_asked_for_and_where_others_cannot_read_the_original(
    project, labelled, tmp_path
):
    store_pictures(labelled)
    Image.objects.filter(pk=labelled[0].pk).update(file_format="heic")

    mixed = unpacked(export_bytes(project, "folders"), tmp_path / "mixed")
    asked = unpacked(export_bytes(project, "folders", pictures="renditions"), tmp_path / "asked")

    assert sorted(name.rpartition(".")[2] for name in mixed) == ["csv", "jpg", "png", "png", "png"]
    assert sorted(name.rpartition(".")[2] for name in asked) == ["csv", *["jpg"] * 4]
    assert len(torchvision.datasets.ImageFolder(tmp_path / "mixed").samples) == 4


def test_hugging_face_gets_a_line_for_each_picture(project, labelled, tmp_path):
    contents = store_pictures(labelled)

    names = unpacked(export_bytes(project, "huggingface", images="all"), tmp_path)

    lines = lines_of((tmp_path / "metadata.jsonl").read_bytes())
    assert sorted([line["file_name"] for line in lines] + ["metadata.jsonl"]) == sorted(names)
    assert len({tuple(line) for line in lines}) == 1
    for line in lines:
        assert (tmp_path / line["file_name"]).read_bytes() == contents[line["image_id"]]
    labels = {line["image_id"]: line["label"] for line in lines}
    made = [image.pk for image in labelled]
    assert labels == dict(zip(made, ("cat", "dog", "bird", "cat", None, None), strict=True))


def test_hugging_face_gets_lists_where_an_image_has_several_classes(several, tmp_path):
    project, images = several
    store_pictures(images)

    unpacked(export_bytes(project, "huggingface"), tmp_path)

    lines = lines_of((tmp_path / "metadata.jsonl").read_bytes())
    assert {line["image_id"]: sorted(line["labels"]) for line in lines} == {
        images[0].pk: ["bird", "cat"], images[1].pk: [], images[2].pk: ["cat", "dog"],
    }  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_of_nothing_is_a_file_others_can_read(project, name, tmp_path):
    content = export_bytes(project, name)

    if FORMATS[name].has_pictures:
        assert len(unpacked(content, tmp_path)) == 1
    elif name == "label_studio":
        assert json.loads(content) == []
    elif name == "coco":
        assert json.loads(content)["images"] == json.loads(content)["annotations"] == []
    else:
        assert len(content.splitlines()) == (1 if name == "csv" else 0)
