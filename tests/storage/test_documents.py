"""The saved of named documents: whole on disk, undoable, and safe against names and files that mean harm."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from neurons.core.errors import InvalidInput, NotFound, StoreError
from neurons.core.names import MAX_NAME
from neurons.storage.documents import TRASH_KEPT, NamedDocuments


def check_has_neurons(content: Any) -> Any:
    if not isinstance(content, dict) or "neurons" not in content:
        raise InvalidInput("a concept needs neurons", field="neurons")
    return content


@pytest.fixture
def saved(home: Path) -> NamedDocuments:
    return NamedDocuments("concepts", check=check_has_neurons)


def test_save_load_list(saved: NamedDocuments) -> None:
    saved.save("Paris", {"neurons": ["1:2+"]})
    saved.save("athens", {"neurons": []})
    assert saved.load("Paris") == {"neurons": ["1:2+"]}
    assert saved.names() == ("athens", "Paris")
    assert "Paris" in saved
    assert "paris" not in saved
    assert NamedDocuments("concepts").load("Paris") == {"neurons": ["1:2+"]}


def test_content_is_checked_on_the_way_in_and_out(saved: NamedDocuments) -> None:
    with pytest.raises(InvalidInput, match="needs neurons"):
        saved.save("bad", {"layers": 1})
    NamedDocuments("concepts").save("foreign", {"layers": 1})
    with pytest.raises(StoreError, match="damaged"):
        saved.load("foreign")
    assert saved.names() == ()
    assert len(saved.damaged()) == 1


def test_what_is_not_json_is_refused(saved: NamedDocuments) -> None:
    for content in ({"neurons": math.nan}, {"neurons": {1, 2}}):
        with pytest.raises(InvalidInput, match="cannot be kept as JSON"):
            saved.save("bad", content)
    assert saved.names() == ()
    assert not [path for path in saved.folder.iterdir() if path.suffix == ".part"]


@pytest.mark.parametrize("name", ["../../escape", "/etc/passwd", "CON", "a\0b", "x/y", "..", "ünïcode 猫", "<script>", "a" * MAX_NAME, "."])
def test_names_never_leave_the_folder(saved: NamedDocuments, name: str) -> None:
    entry = saved.save(name, {"neurons": []})
    assert saved.load(entry.name) == {"neurons": []}
    (path,) = saved.folder.glob("*.json")
    assert path.parent == saved.folder
    assert path.name.isascii()
    assert len(path.name) < 80


def test_bad_names(saved: NamedDocuments) -> None:
    for name in ("", "   ", "\n\t", "a" * (MAX_NAME + 1)):
        with pytest.raises(InvalidInput) as caught:
            saved.save(name, {"neurons": []})
        assert caught.value.field == "name"


def test_names_that_look_the_same_are_the_same(saved: NamedDocuments) -> None:
    saved.save("caf\u00e9  bar", {"neurons": [1]})
    assert saved.load("cafe\u0301 bar\n") == {"neurons": [1]}


def test_replace_and_free_name(saved: NamedDocuments) -> None:
    saved.save("a", {"neurons": [1]})
    with pytest.raises(InvalidInput, match="already an entry 'a'"):
        saved.save("a", {"neurons": [2]}, replace=False)
    assert saved.load("a") == {"neurons": [1]}
    assert saved.free_name("a") == "a 2"
    assert saved.free_name("b") == "b"
    assert saved.save("a", {"neurons": [2]}).content == {"neurons": [2]}


def test_rename(saved: NamedDocuments) -> None:
    saved.save("a", {"neurons": [1]})
    saved.save("b", {"neurons": [2]})
    with pytest.raises(InvalidInput, match="already an entry 'b'"):
        saved.rename("a", "b")
    saved.rename("a", "A")
    assert saved.names() == ("A", "b")
    assert saved.rename("A", "A").content == {"neurons": [1]}
    with pytest.raises(NotFound, match="there are 'A', 'b'"):
        saved.rename("gone", "c")


def test_delete_with_undo(saved: NamedDocuments) -> None:
    saved.save("a", {"neurons": [1]})
    token = saved.delete("a")
    assert saved.names() == ()
    with pytest.raises(NotFound):
        saved.load("a")
    saved.save("a", {"neurons": [2]})
    with pytest.raises(InvalidInput, match="rename that one first"):
        saved.restore(token)
    saved.rename("a", "a new")
    assert saved.restore(token).content == {"neurons": [1]}
    assert saved.names() == ("a", "a new")
    for gone in (token, "../../x", ""):
        with pytest.raises(NotFound):
            saved.restore(gone)


def test_trash_is_bounded(saved: NamedDocuments) -> None:
    for number in range(TRASH_KEPT + 5):
        saved.save("a", {"neurons": [number]})
        saved.delete("a")
    assert len(saved.trash.names()) == TRASH_KEPT


def test_a_damaged_file_harms_no_other(saved: NamedDocuments) -> None:
    saved.save("good", {"neurons": []})
    saved.save("bad", {"neurons": []})
    path = next(path for path in saved.folder.glob("bad*.json"))
    for text in ("", "{", "[]", '{"name": 1}', "\ufffd", "[" * 100_000):
        path.write_text(text)
        assert saved.names() == ("good",)
        assert saved.damaged() == (path,)
        with pytest.raises(StoreError, match="damaged"):
            saved.load("bad")
    saved.save("bad", {"neurons": [1]})
    assert saved.names() == ("bad", "good")


def test_files_say_what_they_are(saved: NamedDocuments) -> None:
    saved.save("Paris", {"neurons": []})
    document = json.loads(next(saved.folder.glob("*.json")).read_text())
    assert (document["format"], document["version"], document["name"]) == ("neuronscope-shelf", 1, "Paris")


def test_many_writers(saved: NamedDocuments) -> None:
    def work(worker: int) -> None:
        mine = NamedDocuments("concepts", check=check_has_neurons)
        for number in range(10):
            mine.save("shared", {"neurons": [worker, number] * 100})
            mine.save(f"{worker} {number}", {"neurons": []})

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(saved.names()) == 41
    assert len(saved.load("shared")["neurons"]) == 200
    assert saved.damaged() == ()
