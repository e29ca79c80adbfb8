"""Where it starts: homes that cannot be used, terminals and pipes that are not UTF-8, ports. Each time the real command in a process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.strange_user import ROOT, command, environment, strange_user
from traces.store import TraceStore

HOME = ("HOME", "NEURONSCOPE_HOME", "XDG_DATA_HOME")
needs_posix = pytest.mark.skipif(os.name != "posix", reason="modes and users of POSIX")


def one_line(done: subprocess.CompletedProcess[bytes], *words: str) -> None:
    """It failed in a sentence, as text and as JSON alike."""
    text = done.stderr.decode("utf-8")
    assert done.returncode == 1, text
    assert text.count("\n") == 1, text
    assert done.stdout == b""
    said = json.loads(text)["error"] if text.startswith("{") else text.removeprefix("error: ")
    for word in words:
        assert word in said, text


@needs_posix
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_user_without_a_home_is_told_what_to_set(form: tuple[str, ...]) -> None:
    for words in (("traces", "list"), ("models", "list")):
        one_line(command(*words, *form, before=strange_user(), unset=HOME), "this user has no home folder", "set NEURONSCOPE_HOME")


@needs_posix
def test_a_user_without_a_home_can_name_a_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "mine").mkdir()
    done = command("traces", "list", "--json", before=strange_user(), unset=HOME, NEURONSCOPE_HOME=str(tmp_path / "mine"))
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_home_of_an_unknown_user(form: tuple[str, ...]) -> None:
    done = command("traces", "list", *form, NEURONSCOPE_HOME="~no-such-user-here/scope")
    one_line(done, "there is no such user", "set NEURONSCOPE_HOME")


@needs_posix
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_home_that_cannot_be_written(tmp_path: Path, form: tuple[str, ...]) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o555)
    tmp_path.chmod(0o755)
    for words in (("traces", "list"), ("models", "list"), ("trace", "hello")):
        done = command(*words, *form, before=strange_user(), NEURONSCOPE_HOME=str(home))
        one_line(done, str(home), "Permission denied", "set NEURONSCOPE_HOME to a folder you can write")
    one_line(command("traces", "list", *form, NEURONSCOPE_HOME="/dev/null"), "/dev/null")


@needs_posix
def test_a_home_that_is_read_only_is_still_read(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = command("traces", "list", "--json", NEURONSCOPE_HOME=str(home))
    listed = [row["id"] for row in json.loads(made.stdout)["traces"]]
    for path in (home, *home.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    tmp_path.chmod(0o755)
    done = command("traces", "list", "--json", before=strange_user(), NEURONSCOPE_HOME=str(home))
    assert done.returncode == 0, done.stderr
    assert [row["id"] for row in json.loads(done.stdout)["traces"]] == listed
    shown = command("traces", "show", listed[0], before=strange_user(), NEURONSCOPE_HOME=str(home))
    assert shown.returncode == 0, shown.stderr
    for path in (home, *home.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


WORDS = "größe 日本 \U0001f600"
FOREIGN = [
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    {"LC_ALL": "C"},
]


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A home with one trace whose name has letters that few encodings know."""
    home = tmp_path_factory.mktemp("worded")
    store = TraceStore(home / "traces")
    example = store.load(store.list()[0].id)
    return home, store.save(replace(example, id="", name=WORDS), {}).id


@pytest.mark.parametrize("given", FOREIGN, ids=lambda given: " ".join(f"{name}={value}" for name, value in given.items()))
def test_output_that_is_not_unicode(worded: tuple[Path, str], given: dict[str, str]) -> None:
    home, trace = worded
    done = command("traces", "list", "--json", NEURONSCOPE_HOME=str(home), **given)
    assert done.returncode == 0, done.stderr
    names = [row["name"] for row in json.loads(done.stdout)["traces"]]
    assert WORDS in names
    shown = command("traces", "show", trace, NEURONSCOPE_HOME=str(home), **given)
    assert shown.returncode == 0, shown.stderr
    assert "日本".encode() in shown.stdout or rb"\u65e5\u672c" in shown.stdout
    refused = command("traces", "show", "größe日本", "--json", NEURONSCOPE_HOME=str(home), **given)
    assert refused.returncode in (1, 2)
    assert "größe日本" in json.loads(refused.stderr)["error"]
    assert b"Traceback" not in command("--help", **given).stderr


@needs_posix
def test_a_port_that_this_user_may_not_open() -> None:
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as limit:
        if int(limit.read()) <= 80:
            pytest.skip("anybody may open port 80 here")
    done = command("run", "--no-browser", "--port", "80", before=strange_user())
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "error: port 80 of 127.0.0.1 is one that this user may not open (below 1024 it takes an administrator); "
        "choose another with --port\n"
    )


def test_a_port_in_use_and_an_address_of_another_machine() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = command("run", "--no-browser", "--port", str(port))
    assert (done.returncode, done.stderr.decode()) == (2, f"error: port {port} of 127.0.0.1 is taken; choose another with --port\n")
    done = command("run", "--no-browser", "--address", "192.0.2.1", "--allow-host", "x")
    assert (done.returncode, done.stderr.decode()) == (2, "error: 192.0.2.1 is not an address of this machine\n")


@needs_posix
def test_a_clone_that_was_moved_and_an_environment_without_pip(tmp_path: Path) -> None:
    """`make` itself, on a copy of the Makefile: a virtual environment cut off before pip was in it is made whole; moved, it still runs."""
    first = tmp_path / "first"
    first.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (first / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    (first / "neurons").symlink_to(ROOT / "neurons")
    (first / "traces").symlink_to(ROOT / "traces")
    options = ["make", "-s", f"PYTHONS={sys.executable}", "INSTALL=true"]  # what it installs is another test's; nothing is fetched here
    plain = environment((), {"PYTHONPATH": ""})
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(first / ".venv")], check=True)
    made = subprocess.run([*options, ".venv/.installed"], cwd=first, env=plain, capture_output=True, text=True, timeout=200, check=False)
    assert made.returncode == 0, made.stderr
    pip = [str(first / ".venv" / "bin" / "python"), "-m", "pip", "--version"]
    assert subprocess.run(pip, capture_output=True, check=False).returncode == 0
    moved = first.rename(tmp_path / "moved")
    asked = [*options, "-n", "run", "lint"]
    dry = subprocess.run(asked, cwd=moved, env=plain, capture_output=True, text=True, timeout=60, check=True)
    ran = {line.split()[0] for line in dry.stdout.splitlines() if line.startswith(".venv/bin/")}
    assert ran == {".venv/bin/python"}, "a script of the environment names the folder that the clone had"
