"""Build `data/supersenses.txt` from a WordNet 3.0 dictionary folder (Debian: package wordnet-base, /usr/share/wordnet).

    python scripts/build_wordnet_table.py /usr/share/wordnet

Kept: single-word lemmas of letters only, each with the supersense (lexicographer file) of its most frequent sense. The part of
speech is the one with the most tagged occurrences in `cntlist.rev`, ties to nouns, then verbs. Irregular forms are kept for
lemmas that occur in the tagged texts at all.
"""

from __future__ import annotations

import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

from neurons.core.errors import InvalidFile
from neurons.descriptions.wordnet import TABLE

_PARTS = {"noun": "1", "verb": "2", "adj": "3", "adv": "4"}
_FILES = [
    "adj.all",
    "adj.pert",
    "adv.all",
    "noun.tops",
    "noun.act",
    "noun.animal",
    "noun.artifact",
    "noun.attribute",
    "noun.body",
    "noun.cognition",
    "noun.communication",
    "noun.event",
    "noun.feeling",
    "noun.food",
    "noun.group",
    "noun.location",
    "noun.motive",
    "noun.object",
    "noun.person",
    "noun.phenomenon",
    "noun.plant",
    "noun.possession",
    "noun.process",
    "noun.quantity",
    "noun.relation",
    "noun.shape",
    "noun.state",
    "noun.substance",
    "noun.time",
    "verb.body",
    "verb.change",
    "verb.cognition",
    "verb.communication",
    "verb.competition",
    "verb.consumption",
    "verb.contact",
    "verb.creation",
    "verb.emotion",
    "verb.motion",
    "verb.perception",
    "verb.possession",
    "verb.social",
    "verb.stative",
    "verb.weather",
    "adj.ppl",
]
"""Lexicographer files in WordNet's own numbering (lexnames(5WN))."""
_WORD = re.compile(r"[a-z]{2,}")


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise InvalidFile(f"{path} is missing; name the folder of a WordNet 3.0 dictionary (index.noun, data.noun, cntlist.rev, ...)")
    return [line for line in path.read_text(encoding="latin-1").splitlines() if line and not line.startswith(" ")]


def build(folder: Path) -> str:
    """Return the table's text: `# supersense` headings, each followed by one line of its lemmas; last, `# forms`."""
    tagged: Counter[tuple[str, str]] = Counter()
    for line in _lines(folder / "cntlist.rev"):
        key, _, count = line.split()
        lemma, rest = key.split("%")
        tagged[lemma, "3" if rest[0] == "5" else rest[0]] += int(count)
    best: dict[str, tuple[int, int, str]] = {}
    for rank, part in enumerate(_PARTS):
        senses = {line[:8]: _FILES[int(line.split()[1])] for line in _lines(folder / f"data.{part}")}
        for line in _lines(folder / f"index.{part}"):
            fields = line.split()
            lemma = fields[0]
            if _WORD.fullmatch(lemma):
                score = (tagged[lemma, _PARTS[part]], -rank, senses[fields[-int(fields[2])]])
                best[lemma] = max(best.get(lemma, (-1, -9, "")), score)
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for lemma, (_, _, sense) in best.items():
        groups[sense].append(lemma)
    common = {lemma for lemma, _ in tagged}
    forms = sorted(
        {
            (form, lemma)
            for part in _PARTS
            for form, lemma in (line.split()[:2] for line in _lines(folder / f"{part}.exc"))
            if lemma in common and lemma in best and _WORD.fullmatch(form) and best.get(form, (0,))[0] == 0
        }
    )
    parts = [f"# {sense}\n{' '.join(sorted(groups[sense]))}\n" for sense in sorted(groups)]
    return "".join(parts) + "# forms\n" + " ".join(f"{form}={lemma}" for form, lemma in forms) + "\n"


if __name__ == "__main__":
    TABLE.write_text(build(Path(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/wordnet")), encoding="ascii")
