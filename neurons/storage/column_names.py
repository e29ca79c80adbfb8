"""What columns are called by people who keep prompts: one vocabulary, for telling a header from a row and a question from an answer.

Names are compared by `plain_name`: without case, with underscores, hyphens, spaces and the capitals within a name alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

ASKED = (
    *("prompt", "prompts", "question", "questions", "query", "queries", "instruction", "instructions", "input", "inputs"),
    *("text", "texts", "content", "message", "messages", "conversation", "conversations", "user", "user prompt", "user input"),
    *("user message", "goal", "goals", "problem", "problems", "behavior", "behaviour", "utterance", "task prompt", "prompt text"),
    # the same in other languages
    *("frage", "fragen", "aufgabe", "pregunta", "preguntas", "pergunta", "perguntas", "invite", "domanda", "domande", "vraag", "fråga"),
    *("spørgsmål", "spørsmål", "kysymys", "otázka", "otázky", "dotaz", "zadání", "pytanie", "kérdés", "întrebare", "soru", "sorular"),
    *("вопрос", "вопросы", "запрос", "питання", "въпрос", "ερώτηση", "שאלה", "سؤال", "प्रश्न", "คำถาม", "câu hỏi", "pertanyaan"),
    *("问题", "提问", "提示", "提示词", "問題", "提問", "質問", "プロンプト", "질문", "프롬프트"),
)
"""Columns that hold what is asked."""

EXPECTED = (
    *("expected", "expected answer", "expected output", "expected response", "expected result", "ideal", "gold", "gold answer"),
    *("correct answer", "right answer", "best answer", "reference answer", "reference", "ground truth", "final answer"),
    *("answer", "answers", "solution", "target", "targets", "completion", "output", "outputs", "response", "responses"),
    *("antwort", "respuesta", "resposta", "réponse", "risposta", "antwoord", "svar", "vastaus", "odpověď", "odpowiedź", "válasz"),
    *("răspuns", "cevap", "yanıt", "ответ", "відповідь", "отговор", "απάντηση", "תשובה", "جواب", "उत्तर", "คำตอบ", "câu trả lời"),
    *("jawaban", "答案", "回答", "答え", "답", "답변", "정답"),
)
"""Columns that hold what the answer should be, the most telling name first."""

WRITTEN = ("answer", "completion", "output", "outputs", "response", "responses")
"""Those of them under which a program keeps what a model answered as well."""

WRITER = ("generator", "model", "model id", "model name", "trace")
"""Columns that say which model, or which run, wrote what stands in `WRITTEN`: AlpacaEval's outputs, the results of a run."""

BESIDE = (
    *("context", "contexts", "retrieved contexts", "passage", "passages", "paragraph", "paragraphs", "article", "story", "document"),
    *("documents", "background", "body", "excerpt", "knowledge", "premise", "definition", "choices", "options", "context string"),
    *("history", "chat history", "instances", "table", "schema", "image", "images", "picture", "audio", "video"),
)
"""Columns that a question is not whole without."""

SPEAKER = ("role", "from", "speaker", "sender", "author", "turn")
"""Columns that say who wrote a row: one of a conversation, then, not a question of its own."""

SYSTEM = ("system", "system prompt", "system message")
ID = ("id", "prompt id", "question id", "task id", "doc id", "name", "key", "uid", "idx", "index")
TAGS = ("tags", "tag", "labels", "label", "category", "categories", "topic", "subject")
_OTHER = ("url", "source", "seed", "score", "model", "language", "split", "type", "level", "comment", "note", "notes")

KNOWN = frozenset((*ASKED, *EXPECTED, *BESIDE, *SPEAKER, *SYSTEM, *ID, *TAGS, *_OTHER))
_WORDS = 4  # words from which a lone cell is a sentence, not a name
_LONG = 60
_ENDS = (*"?!。？！؟;", "...", "…")


@lru_cache(1 << 15)
def plain_name(name: str) -> str:
    """A column's name as names are compared."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", unicodedata.normalize("NFKC", name)).casefold()
    return " ".join(re.sub(r"[_\-\s]+", " ", text).split())


def header_of(cells: Sequence[str]) -> Literal["yes", "no", "in doubt"]:
    """Whether a table's first row names its columns: never guessed, where neither its names nor its looks tell."""
    names = [plain_name(cell) for cell in cells]
    written = [cell.strip() for cell in cells if cell.strip()]
    if any(cell.startswith("__expected") for cell in written):
        return "yes"
    repeated = len(set(filter(None, names))) < len(list(filter(None, names)))
    texts = [cell for cell in written if _is_text(cell)]
    if repeated or texts:
        labels = all(_is_label(cell) for cell in texts)  # "Correct?" names a column, "Is it right?" hardly does
        return "in doubt" if labels and any(name in ASKED for name in names) else "no"
    if any(name in KNOWN for name in names):
        return "yes"
    return "no" if len(written) == 1 and len(written[0].split()) >= _WORDS else "in doubt"


def _is_label(cell: str) -> bool:
    """Whether a cell that ends like a sentence may name a column all the same."""
    return cell.endswith("?") and len(cell.split()) == 1


def _is_text(cell: str) -> bool:
    number = cell.replace(".", "").replace(",", "").replace("-", "").isdigit()
    return number or len(cell) > _LONG or "\n" in cell or cell.endswith(_ENDS) or (cell.endswith(".") and " " in cell)
