import json
import shutil
import threading

import pytest
from kombu import Connection
from kombu.transport.filesystem import Empty

import annotator.celery  # noqa: F401 - names the embedded transport

N_MESSAGES = 200


def test_messages_are_whole_and_each_is_taken_once_however_many_look(tmp_path):
    folder = tmp_path / "messages"
    folder.mkdir()
    options = {
        "data_folder_in": str(folder),
        "data_folder_out": str(folder),
        "control_folder": str(tmp_path / "control"),
    }
    connection = Connection("embedded://", transport_options=options)
    channels = [connection.channel() for _ in range(4)]
    taken, all_written = [], threading.Event()

    def look(channel):
        while True:
            was_all = all_written.is_set()
            try:
                taken.append(channel._get("bells")["number"])
            except Empty:
                if was_all:
                    return

    lookers = [threading.Thread(target=look, args=[c], daemon=True) for c in channels[1:]]
    for looker in lookers:
        looker.start()
    for number in range(N_MESSAGES):
        channels[0]._put("bells", {"number": number, "ballast": "x" * 20_000})
    all_written.set()
    for looker in lookers:
        looker.join(timeout=20)

    assert sorted(taken) == list(range(N_MESSAGES))
    assert list(folder.iterdir()) == []


def test_a_message_being_written_is_not_seen(tmp_path):
    options = {"data_folder_in": str(tmp_path), "data_folder_out": str(tmp_path)}
    channel = Connection("embedded://", transport_options=options).channel()
    channel._put("bells", {"n": 1})
    (whole,) = tmp_path.iterdir()
    (tmp_path / "000_half.writing").write_text(json.dumps({"n": 2})[:4])

    assert whole.suffix == ".msg"
    assert channel._size("bells") == 1
    assert channel._get("bells") == {"n": 1}


def test_a_broker_whose_folder_is_lost_takes_messages_again(tmp_path):
    folder = tmp_path / "messages"
    folder.mkdir()
    options = {
        "data_folder_in": str(folder),
        "data_folder_out": str(folder),
        "control_folder": str(tmp_path / "control"),
    }
    with Connection("embedded://", transport_options=options) as connection:
        bells = connection.SimpleQueue("bells")
        bells.put({"n": 1})
        shutil.rmtree(tmp_path)

        with pytest.raises(Empty):
            bells.get(block=False)
        bells.put({"n": 2})

        assert bells.get(timeout=5).payload == {"n": 2}
