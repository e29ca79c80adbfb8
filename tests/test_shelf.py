"""The shelf of named documents: whole on disk, undoable, and safe against names and files that mean harm."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from neurons.errors import InvalidInput, NotFound, StoreError
from neurons.shelf import MAX_NAME, TRASH_KEPT, JsonShelf


def check_has_neurons(content: Any) -> Any:
    if not isinstance(content, dict) or "neurons" not in content:
        raise InvalidInput("a concept needs neurons", field="neurons")
    return content


@pytest.fixture
def shelf(home: Path) -> JsonShelf:
    return JsonShelf("concepts", check=check_has_neurons)


def test_save_load_list(shelf: JsonShelf) -> None:
    shelf.save("Paris", {"neurons": ["1:2+"]})
    shelf.save("athens", {"neurons": []})
    assert shelf.load("Paris") == {"neurons": ["1:2+"]}
    assert shelf.names() == ("athens", "Paris")
    assert "Paris" in shelf
    assert "paris" not in shelf
    assert JsonShelf("concepts").load("Paris") == {"neurons": ["1:2+"]}


def test_content_is_checked_on_the_way_in_and_out(shelf: JsonShelf) -> None:
    with pytest.raises(InvalidInput, match="needs neurons"):
        shelf.save("bad", {"layers": 1})
    JsonShelf("concepts").save("foreign", {"layers": 1})
    with pytest.raises(StoreError, match="damaged"):
        shelf.load("foreign")
    assert shelf.names() == ()
    assert len(shelf.damaged()) == 1


def test_what_is_not_json_is_refused(shelf: JsonShelf) -> None:
    for content in ({"neurons": math.nan}, {"neurons": {1, 2}}):
        with pytest.raises(InvalidInput, match="cannot be kept as JSON"):
            shelf.save("bad", content)
    assert shelf.names() == ()
    assert not [path for path in shelf.folder.iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", "CON", "a\0b", "x/y", "..", "ünïcode 猫", "<script>", "a" * MAX_NAME, "."])
def test_names_never_leave_the_folder(shelf: JsonShelf, name: str) -> None:
    entry = shelf.save(name, {"neurons": []})
    assert shelf.load(entry.name) == {"neurons": []}
    (path,) = shelf.folder.glob("*.json")
    assert path.parent == shelf.folder
    assert path.name.isascii()
    assert len(path.name) < 80


def test_bad_names(shelf: JsonShelf) -> None:
    for name in ("", "   ", "\n\t", "a" * (MAX_NAME + 1)):
        with pytest.raises(InvalidInput) as caught:
            shelf.save(name, {"neurons": []})
        assert caught.value.field == "name"


def test_names_that_look_the_same_are_the_same(shelf: JsonShelf) -> None:
    shelf.save("caf\u00e9  bar", {"neurons": [1]})
    assert shelf.load("cafe\u0301 bar\n") == {"neurons": [1]}


def test_replace_and_free_name(shelf: JsonShelf) -> None:
    shelf.save("a", {"neurons": [1]})
    with pytest.raises(InvalidInput, match="already an entry 'a'"):
        shelf.save("a", {"neurons": [2]}, replace=False)
    assert shelf.load("a") == {"neurons": [1]}
    assert shelf.free_name("a") == "a 2"
    assert shelf.free_name("b") == "b"
    assert shelf.save("a", {"neurons": [2]}).content == {"neurons": [2]}


def test_rename(shelf: JsonShelf) -> None:
    shelf.save("a", {"neurons": [1]})
    shelf.save("b", {"neurons": [2]})
    with pytest.raises(InvalidInput, match="already an entry 'b'"):
        shelf.rename("a", "b")
    shelf.rename("a", "A")
    assert shelf.names() == ("A", "b")
    assert shelf.rename("A", "A").content == {"neurons": [1]}
    with pytest.raises(NotFound, match="there are 'A', 'b'"):
        shelf.rename("gone", "c")


def test_delete_with_undo(shelf: JsonShelf) -> None:
    shelf.save("a", {"neurons": [1]})
    token = shelf.delete("a")
    assert shelf.names() == ()
    with pytest.raises(NotFound):
        shelf.load("a")
    shelf.save("a", {"neurons": [2]})
    with pytest.raises(InvalidInput, match="rename that one first"):
        shelf.restore(token)
    shelf.rename("a", "a new")
    assert shelf.restore(token).content == {"neurons": [1]}
    assert shelf.names() == ("a", "a new")
    for gone in (token, "../../x", ""):
        with pytest.raises(NotFound):
            shelf.restore(gone)


def test_trash_is_bounded(shelf: JsonShelf) -> None:
    for number in range(TRASH_KEPT + 5):
        shelf.save("a", {"neurons": [number]})
        shelf.delete("a")
    assert len(list(shelf.trash.iterdir())) == TRASH_KEPT


def test_a_damaged_file_harms_no_other(shelf: JsonShelf) -> None:
    shelf.save("good", {"neurons": []})
    shelf.save("bad", {"neurons": []})
    path = next(path for path in shelf.folder.glob("bad*.json"))
    for text in ("", "{", "[]", '{"name": 1}', "\ufffd", "[" * 100_000):
        path.write_text(text)
        assert shelf.names() == ("good",)
        assert shelf.damaged() == (path,)
        with pytest.raises(StoreError, match="damaged"):
            shelf.load("bad")
    shelf.save("bad", {"neurons": [1]})
    assert shelf.names() == ("bad", "good")


def test_files_say_what_they_are(shelf: JsonShelf) -> None:
    shelf.save("Paris", {"neurons": []})
    document = json.loads(next(shelf.folder.glob("*.json")).read_text())
    assert (document["format"], document["version"], document["name"]) == ("neuronscope-shelf", 1, "Paris")


def test_many_writers(shelf: JsonShelf) -> None:
    def work(worker: int) -> None:
        mine = JsonShelf("concepts", check=check_has_neurons)
        for number in range(10):
            mine.save("shared", {"neurons": [worker, number] * 100})
            mine.save(f"{worker} {number}", {"neurons": []})

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shelf.names()) == 41
    assert len(shelf.load("shared")["neurons"]) == 200
    assert shelf.damaged() == ()
