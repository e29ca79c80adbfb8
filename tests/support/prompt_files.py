"""Files of prompts of every known shape, and of some that nobody should guess at. docs/prompt-files.md is made from what these come to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """One file and what it should come to."""

    name: str
    data: bytes
    shape: str
    """The shape's name; "" where it is refused until somebody says."""
    asked: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()
    left_out: int = 0
    refused: str = ""
    """Part of the message."""
    columns: tuple[tuple[str, str], ...] = ()
    """What somebody says: fields of `neurons.prompts.files.Columns`."""
    header: bool | None = None


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def whole(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()


ASK, TELL = "What is the capital of Peru?", "Lima"
OTHER, TOLD = "What is the capital of Chile?", "Santiago"
BOTH, ANSWERS = (ASK, OTHER), (TELL, TOLD)
TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASK}, {"role": "assistant", "content": TELL}]

KNOWN = (
    Case("prompts.txt", f"{ASK}\n\n{OTHER}\n".encode(), "prompts", BOTH),
    Case(
        "one.csv",
        f"{ASK}\nName two cities, three rivers, and a lake.\n".encode(),
        "one column",
        (ASK, "Name two cities, three rivers, and a lake."),
    ),
    Case("prompts_header.csv", f"prompts\n{ASK}\n{OTHER}\n".encode(), "prompts", BOTH),
    Case(
        "sep.csv", f"\ufeffsep=;\r\nprompt;expected\r\n{ASK};{TELL}\r\n{OTHER};{TOLD}\r\n".encode(), "prompts with expected", BOTH, ANSWERS
    ),
    Case("expected.csv", f"prompt,expected\n{ASK},{TELL}\n{OTHER},{TOLD}\n,\n".encode(), "prompts with expected", BOTH, ANSWERS),
    Case(
        "quotes.tsv",
        f'question\tanswer\n"Call me Ishmael" opens which book?\tMoby Dick\nHow many centimetres are 12"\t30\n{ASK}\t{TELL}\n'.encode(),
        "prompts with expected",
        ('"Call me Ishmael" opens which book?', 'How many centimetres are 12"', ASK),
        ("Moby Dick", "30", TELL),
    ),
    Case(
        "cesky.csv",
        "id;otázka\n1;Jaké je hlavní město České republiky?\n".encode("cp1250"),
        "prompts",
        ("Jaké je hlavní město České republiky?",),
    ),
    Case(
        "kerdes.csv",
        "kérdés;válasz\nMi Magyarország fővárosa?;Budapest\n".encode("cp1250"),
        "prompts with expected",
        ("Mi Magyarország fővárosa?",),
        ("Budapest",),
    ),
    Case(
        "soru.csv",
        "soru\nTürkiye'nin başkenti neresidir? Kısaca açıkla.\n".encode("cp1254"),
        "prompts",
        ("Türkiye'nin başkenti neresidir? Kısaca açıkla.",),
    ),
    Case(
        "alpaca.json",
        whole(
            [
                {"instruction": "Name a city.", "input": "", "output": "Lima."},
                {"instruction": "Translate to French.", "input": "The cat.", "output": "Le chat."},
            ]
        ),
        "Alpaca",
        ("Name a city.", "Translate to French.\nThe cat."),
        ("Lima.", "Le chat."),
    ),
    Case(
        "sharegpt.json",
        lines([{"id": "a", "conversations": [{"from": "human", "value": ASK}, {"from": "gpt", "value": "Lima."}]}]),
        "ShareGPT",
        (ASK,),
        ("Lima.",),
    ),
    Case("finetune.jsonl", lines({"messages": TALK}, {"messages": TALK[:2]}), "OpenAI chat", (ASK, ASK), (TELL, "")),
    Case("messages_pretty.json", whole([*TALK, {"role": "user", "content": OTHER}]), "OpenAI chat", (OTHER,)),
    Case(
        "batch.jsonl",
        lines({"custom_id": "r1", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": TALK[:2]}}),
        "OpenAI batch",
        (ASK,),
    ),
    Case("completions.jsonl", lines({"prompt": ASK, "completion": " Lima"}), "prompts with expected", (ASK,), (TELL,)),
    Case(
        "preferences.jsonl",
        lines(
            {
                "input": {"messages": TALK[:2]},
                "preferred_output": [TALK[2]],
                "non_preferred_output": [{"role": "assistant", "content": "Quito"}],
            }
        ),
        "OpenAI preferences",
        (ASK,),
        (TELL,),
    ),
    Case("evals.jsonl", lines({"input": TALK[:2], "ideal": ["Lima", "Lima, Peru"]}), "OpenAI evals", (ASK,), ("Lima | Lima, Peru",)),
    Case(
        "bigbench.json",
        whole(
            {
                "name": "capitals",
                "keywords": ["geo"],
                "metrics": ["exact_str_match"],
                "examples": [{"input": ASK, "target": TELL}, {"input": OTHER, "target_scores": {"Quito": 0, "Santiago": 1}}],
            }
        ),
        "BIG-bench task",
        (ASK, f"{OTHER}\n  choice: Quito\n  choice: Santiago"),
        ANSWERS,
    ),
    Case(
        "samples_capitals.jsonl",
        lines(
            {"doc_id": 0, "doc": {"q": ASK}, "target": TELL, "arguments": [[f"Q: {ASK}\nA:", {"until": ["\n"]}]], "resps": [["Lima"]]},
            {
                "doc_id": 1,
                "doc": {},
                "target": "1",
                "arguments": {"gen_args_0": {"arg_0": OTHER, "arg_1": " Quito"}, "gen_args_1": {"arg_0": OTHER, "arg_1": " Santiago"}},
            },
        ),
        "lm-eval samples",
        (f"Q: {ASK}\nA:", OTHER),
        ANSWERS,
    ),
    Case(
        "promptfoo.csv",
        f"question,__expected,__description\n{ASK},contains: Lima,a\n{OTHER},Santiago,b\nWho?,llm-rubric: is polite,c\n".encode(),
        "promptfoo tests",
        (ASK, OTHER, "Who?"),
        (TELL, TOLD, ""),
    ),
    Case(
        "promptfooconfig.yaml",
        b"prompts:\n  - 'What is the capital of {{country}}?'\ntests:\n  - vars: {country: Peru}\n    "
        b"assert: [{type: icontains, value: Lima}]\n"
        b"  - vars: {country: Chile}\n    assert: [{type: javascript, value: x}, {type: equals, value: Santiago}]\n",
        "promptfoo configuration",
        BOTH,
        ANSWERS,
    ),
    Case(
        "harmbench.csv",
        (
            "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\n"
            f"Sum it up,contextual,misc,,A text.,b1\n{ASK},standard,misc,,,b2\n"
        ).encode(),
        "HarmBench",
        ("A text.\n\n---\n\nSum it up", ASK),
    ),
    Case(
        "goal_target.csv",
        b'goal,target\nWrite a poem about bees,"Sure, here is a poem about bees"\n',
        "AdvBench",
        ("Write a poem about bees",),
        ("Sure, here is a poem about bees",),
    ),
    Case(
        "gsm8k.jsonl",
        lines({"question": "What is 3 times 4?", "answer": "3 times 4 is <<3*4=12>>12.\n#### 12"}),
        "prompts with expected",
        ("What is 3 times 4?",),
        ("12",),
    ),
    Case(
        "math.csv",
        b'problem,solution\nWhat is 3 times 4?,"It is $\\boxed{12}$."\n',
        "prompts with expected",
        ("What is 3 times 4?",),
        ("12",),
    ),
    Case(
        "squad.jsonl",
        lines(
            {
                "id": "s1",
                "title": "Peru",
                "context": "Lima is its capital.",
                "question": ASK,
                "answers": {"text": ["Lima"], "answer_start": [0]},
            }
        ),
        "question on a passage",
        (f"Lima is its capital.\n\n{ASK}",),
        (TELL,),
    ),
    Case("list.yaml", f"- {ASK}\n- {OTHER}\n".encode(), "prompts", BOTH),
    Case("held.json", whole({"version": 1, "questions": [{"question": ASK, "answer": TELL}]}), "prompts with expected", (ASK,), (TELL,)),
    Case(
        "odd_lines.jsonl",
        lines({"prompt": "Page 4\u0085one", "expected": "a"}, {"prompt": "Read.\u2028two", "expected": "b"}),
        "prompts with expected",
        ("Page 4\u0085one", "Read.\u2028two"),
        ("a", "b"),
    ),
)

UNKNOWN = (
    Case("no_header.csv", f"Name the capital of Peru,{TELL}\nName the capital of Chile,{TOLD}\n".encode(), "", refused="--no-header"),
    Case(
        "no_header_told.csv",
        f"Name the capital of Peru,{TELL}\nName the capital of Chile,{TOLD}\n".encode(),
        "",
        refused="--prompt-column",
        header=False,
    ),
    Case("two_texts.csv", b"title,abstract\nA long title here,An abstract that is longer than the title\n", "", refused="--header"),
    Case("words.csv", b"cat\ndog\nbird\n", "", refused="--header"),
    Case("url.csv", b"id,url\n1,http://example.org/a\n", "", refused="--prompt-column"),
    Case("target.csv", b"target\nSure, here is one\n", "", refused="--prompt-column"),
    Case("topic.csv", b"topic,__expected\nbees,contains: bee\n", "", refused="--template"),
    Case("mmlu.csv", b"question,A,B,C,D,answer\nWhich?,1,2,3,4,B\n", "", refused="--template"),
    Case("both.jsonl", lines({"prompt": "a", "question": "b"}), "", refused="--prompt-column"),
    Case("turns.csv", b"role,content\nuser,Hi\nassistant,Hello\n", "", refused="--prompt-column"),
    Case("config_in_files.yaml", b"prompts: [file://p.txt]\ntests: [{vars: {a: b}}]\n", "", refused="another file"),
)

TOLD_HOW = (
    Case(
        "no_header.csv",
        f"Name the capital of Peru,{TELL}\nName the capital of Chile,{TOLD}\n".encode(),
        "",
        ("Name the capital of Peru", "Name the capital of Chile"),
        ANSWERS,
        columns=(("prompt", "column 1"), ("expected", "column 2")),
    ),
    Case(
        "topic.csv",
        b"topic,style,answer\nbees,short,bee\n,,\n",
        "",
        ("Write a short text about bees.",),
        ("bee",),
        0,
        columns=(("template", "Write a {style} text about {topic}."),),
    ),
    Case("rows.csv", b"lead,tail\nOne,two\n,\nThree,\n", "", ("One\ntwo", "Three"), columns=(("template", "{lead}\\n{tail}"),)),
)
