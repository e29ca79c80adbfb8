"""Write docs/prompt-files.md from the files that the tests read: run with PYTHONPATH=. from the repository's root."""

from __future__ import annotations

from pathlib import Path

from neurons.core.errors import InvalidInput
from neurons.prompts.files import Columns, load_file
from neurons.prompts.shapes import SHAPES
from tests.support.data_set_files import READ, REFUSED
from tests.support.prompt_files import KNOWN, TOLD_HOW, UNKNOWN, Case

TARGET = Path(__file__).resolve().parents[1] / "docs" / "prompt-files.md"
_HEAD = """# Files of prompts

Written by `scripts/prompt_files_doc.py` from what the tests read; a test compares it. `neuronscope prompts check FILE` says of any file
what was understood, and every command that takes a file says which column it asked and what became of the rows: read, asked, left out.

A column is asked because of what it is, never because of how long its texts are. A file of a known shape is read as what it is. Any other
is shown with the choice on the Prompts page, and refused by the commands until `--prompt-column NAME` or
`--template "{instruction}\\n{input}"` is given. `--expected-column`, `--system-column`, `--id-column` and `--tags-column` name the rest.

What a row expects is kept with its prompt. `neuronscope stats` and the Statistics page hold each answer against it where no other
criterion is given: any of its texts, as words of their own. Of GSM8K's solutions the number after `####` is expected, of MATH's what is
boxed. Of JSON's true and false, and of the texts yes, no, true and false in any case, the verdict is: the first yes, no, true or false in
an answer must say the same ("true" and "yes" alike; "not true" is a no). What a model answered is not what is expected: `output`,
`response`, `completion` or `answer` beside a column `generator`, `model` or `trace` counts only where `--expected-column` says so;
answers in conversations beside one (LMSYS, WildChat) do not count. An answer that KTO's `label` calls false is none that is expected.

- **Kind.** By the ending: txt, csv, tsv, json, jsonl, ndjson, yaml. A file without one that holds no JSON is a prompt a line; one that ends
  otherwise (html, md, log) is refused until `--format` says how it is read.
- **Header.** The first row names the columns where it holds a known name; it does not where a cell is a sentence or a number. Otherwise the
  commands ask for `--header` or `--no-header`.
- **Separator.** Comma, semicolon, tab or bar: the one under which the first row is a header, or under which every row has as many cells;
  a `sep=` line says it. A file where none fits is one column.
- **Quotes.** Cells of CSV may be quoted; those of TSV are taken as they are. `--quotes` and `--no-quotes` choose.
- **Encoding.** A byte-order mark is believed and goes; else UTF-8, else what the detector says first. It is said, and `--encoding`
  overrides it.
- **JSON.** One value a line (lines end at line feeds alone), an array, an object that holds one list, pretty-printed or not. Where what
  is asked is an object (LangSmith's inputs, Langfuse's input), its fields are the columns, in cells of CSV too. Where only some
  are objects, each is asked if it holds one question or conversation alone, else left out.
- **Transcripts.** A text that is a conversation as HH-RLHF writes it (`Human: ...`, `Assistant: ...`, parted by empty lines) is asked
  turn by turn.
- **promptfoo.** Of its assertions equals, contains (and its kin), starts-with and regex are kept; what stands in other files, scenarios,
  conditions and filters are refused.
- **Parts of a question.** A question beside choices, a passage, a table, an image or earlier turns is not asked without them: known shapes
  join them, others are refused until a template says how.
"""


def document() -> str:
    """The whole page."""
    shapes = "\n".join(f"| {shape.name} | {shape.asks} | {shape.expects or '-'} |" for shape in SHAPES)
    parts = [
        _HEAD,
        "## Shapes\n\nThe first that fits counts.\n\n| shape | asked | expected |\n|---|---|---|\n" + shapes,
        "## What the tests read\n\n| file | read as | first prompt | expected | rows |\n|---|---|---|---|---|\n" + _rows((*KNOWN, *READ)),
        "## Refused until somebody says\n\n| file | said |\n|---|---|\n"
        + "\n".join(f"| {case.name} | {_cell(_refused(case))} |" for case in (*UNKNOWN, *REFUSED)),
        "## Read as somebody says\n\n| file | read as | first prompt | expected | rows |\n|---|---|---|---|---|\n" + _rows(TOLD_HOW),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _rows(cases: tuple[Case, ...]) -> str:
    lines = []
    for case in cases:
        reading = load_file(case.data, name=case.name, columns=Columns(**dict(case.columns)), header=case.header)
        found, table = reading.prompts, reading.table
        first = found.rows[0]
        kind = f"{table.format}, {table.encoding}: {found.asked}"
        lines.append(
            f"| {case.name} | {_cell(kind)} | {_cell(first.prompt)} | {_cell(str(first.expected or ''))} | {_cell(found.account)} |"
        )
    return "\n".join(lines)


def _refused(case: Case) -> str:
    try:
        load_file(case.data, name=case.name, header=case.header)
    except InvalidInput as error:
        return str(error)
    raise AssertionError(f"{case.name} was read")


def _cell(text: str) -> str:
    shown = text.replace("\n", "⏎").replace("|", "\\|")
    for char in "\u2028\u0085":
        shown = shown.replace(char, f"⟨U+{ord(char):04X}⟩")
    return f"`{shown}`" if "<" in shown or "*" in shown else shown


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
