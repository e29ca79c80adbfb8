"""Data sets as their makers publish them, a few rows of each: read as what they are, or refused until somebody says."""

from __future__ import annotations

from tests.support.prompt_files import Case, lines, whole

_HELD = "prompts with expected"
_ASKED_FOR = "--prompt-column"


def _say(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


_NORMANS = {
    "context": "The Normans lived in Normandy.",
    "qas": [
        {
            "question": "Where did they live?",
            "id": "56dd",
            "answers": [{"text": "Normandy", "answer_start": 21}] * 2,
            "is_impossible": False,
        },
        {"question": "Who was Norman?", "id": "5ad3", "plausible_answers": [{"text": "Normans"}], "answers": [], "is_impossible": True},
    ],
}
_VERDICTS = ("yes | true", "no | false")
_RUNS = (
    {"id": "d1", "inputs": {"question": "What is a trace?"}, "outputs": {"answer": "A run"}, "metadata": {}},
    {"id": "d2", "inputs": {"question": "What is a span?"}, "outputs": {"answer": "A step"}, "metadata": {}},
)

READ = (
    Case(
        "squad-v2.0.json",
        whole({"version": "v2.0", "data": [{"title": "N", "paragraphs": [_NORMANS]}]}),
        "SQuAD",
        ("The Normans lived in Normandy.\n\nWhere did they live?", "The Normans lived in Normandy.\n\nWho was Norman?"),
        ("Normandy", ""),
    ),
    Case(
        "math_nested.jsonl",
        lines({"problem": "Halve one.", "level": "Level 1", "solution": "x" * 2000 + " It is $\\boxed{\\frac{1}{2}}$."}),
        _HELD,
        ("Halve one.",),
        ("\\frac{1}{2}",),
    ),
    Case(
        "TruthfulQA.csv",
        b"Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
        b"Adversarial,Myths,Do seeds grow in you?,They pass,Nothing; They pass,They grow,u\n",
        _HELD,
        ("Do seeds grow in you?",),
        ("They pass",),
    ),
    Case(
        "lima.jsonl",
        lines({"conversations": ["Why?", "So."], "source": "x"}, {"conversations": ["One?", "A.", "Two?", "B."], "source": "y"}),
        "ShareGPT",
        ("Why?", "Two?"),
        ("So.", "B."),
    ),
    Case(
        "capybara.jsonl",
        lines({"source": "x", "conversation": [{"input": "One?", "output": "A."}, {"input": "Two?", "output": "B."}]}),
        "ShareGPT",
        ("Two?",),
        ("B.",),
    ),
    Case("ultrachat.jsonl", lines({"id": "0", "data": ["One?", "A.", "Two?", "B."]}), "UltraChat", ("Two?",), ("B.",)),
    Case(
        "ultrachat_200k.jsonl",
        lines({"prompt": "One?", "prompt_id": "f", "messages": [_say("One?"), _answer("A.")]}),
        "OpenAI chat",
        ("One?",),
        ("A.",),
    ),
    Case(
        "mt_bench.jsonl",
        lines(
            {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]},
            {"question_id": 101, "category": "reasoning", "turns": ["Who leads?", "And then?"], "reference": ["You.", "Nobody."]},
        ),
        "MT-bench questions",
        ("Write.", "Who leads?"),
        ("", "You."),
    ),
    Case(
        "arena_hard.jsonl",
        lines({"question_id": "3", "cluster": "c", "turns": [{"content": "Write a melody."}]}),
        "MT-bench questions",
        ("Write a melody.",),
    ),
    Case(
        "dolly.jsonl",
        lines({"instruction": "When?", "context": "It began in 2000.", "response": "In 2000", "category": "closed_qa"}),
        "Alpaca",
        ("When?\nIt began in 2000.",),
        ("In 2000",),
    ),
    Case(
        "history.json",
        whole([{"system": "Be kind.", "instruction": "And now?", "input": "", "output": "C.", "history": [["One?", "A."]]}]),
        "Alpaca",
        ("And now?",),
        ("C.",),
    ),
    Case(
        "task_definition.json",
        whole({"Definition": ["Name the sum."], "Instances": [{"id": "t-1", "input": "1 and 2", "output": ["3"]}]}),
        "Natural Instructions",
        ("Name the sum.\n\n1 and 2",),
        ("3",),
    ),
    Case(
        "boolq.jsonl",
        lines({"question": "is it so", "title": "T", "answer": True, "passage": "It is so."}),
        "question on a passage",
        ("It is so.\n\nis it so",),
        ("yes | true",),
    ),
    Case("strategyqa.json", whole([{"qid": "b", "question": "Is ice hot?", "answer": False}]), _HELD, ("Is ice hot?",), ("no | false",)),
    Case("boolq.csv", b"question,answer\nis ice cold,True\nis ice hot,False\n", _HELD, ("is ice cold", "is ice hot"), _VERDICTS),
    Case(
        "hh_rlhf.jsonl",
        lines(
            {"chosen": "\n\nHuman: Hi\n\nAssistant: Hi", "rejected": "\n\nHuman: Hi\n\nAssistant: No"},
            {
                "chosen": "\n\nHuman: One?\n\nAssistant: A.\n\nHuman: Two?\n\nAssistant: B.",
                "rejected": "\n\nHuman: One?\n\nAssistant: A.\n\nHuman: Two?\n\nAssistant:",
            },
        ),
        "HH-RLHF",
        ("Hi", "Two?"),
    ),
    Case(
        "static_hh.jsonl",
        lines({"prompt": "\n\nHuman: Hi?\n\nAssistant:", "response": " Hi.", "chosen": " Hi.", "rejected": " No."}),
        _HELD,
        ("Hi?",),
        ("Hi.",),
    ),
    Case("trl_preferences.jsonl", lines({"chosen": [_say("Hi?"), _answer("Hi.")], "rejected": [_say("Hi?")]}), "HH-RLHF", ("Hi?",)),
    Case(
        "kto.jsonl",
        lines({"prompt": "Hi?", "completion": "Hi.", "label": True}, {"prompt": "Hi?", "completion": "No.", "label": False}),
        _HELD,
        ("Hi?", "Hi?"),
        ("Hi.", ""),
    ),
    Case("lmsys.jsonl", lines({"model": "vicuna-13b", "conversation": [_say("Hi?"), _answer("Yo")], "turn": 1}), "ShareGPT", ("Hi?",)),
    Case(
        "alpaca_eval.json",
        whole([{"dataset": "helpful_base", "instruction": "Name an actor.", "output": "Someone.", "generator": "text_davinci_003"}]),
        "prompts",
        ("Name an actor.",),
    ),
    Case(
        "results.csv",
        b"row,name,prompt,answer,ended,trace\n1,,What is the capital of Peru?,Cusco,stop,0a9654db121b\n",
        "prompts",
        ("What is the capital of Peru?",),
    ),
    Case(
        "ifeval.jsonl",
        lines({"key": 1000, "prompt": "Write without a comma.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}),
        "prompts",
        ("Write without a comma.",),
    ),
    Case("langsmith.jsonl", lines(*_RUNS), _HELD, ("What is a trace?", "What is a span?"), ("A run", "A step")),
    Case(
        "langsmith.csv",
        b'id,inputs,outputs\n1,"{""question"": ""What is a trace?""}","{""answer"": ""A run""}"\n',
        _HELD,
        ("What is a trace?",),
        ("A run",),
    ),
    Case(
        "langsmith_chat.jsonl",
        lines({"inputs": {"messages": [_say("Hi?")]}, "outputs": {"messages": [_answer("Hi.")]}}),
        "OpenAI chat",
        ("Hi?",),
        ("Hi.",),
    ),
    Case(
        "langsmith_passage.jsonl",
        lines({"inputs": {"question": "Where?", "context": "In Lima."}, "outputs": {"answer": "Lima"}}),
        "question on a passage",
        ("In Lima.\n\nWhere?",),
        ("Lima",),
    ),
    Case(
        "langfuse.json",
        whole([{"id": "c1", "input": "What is a trace?", "expectedOutput": "A run", "metadata": None, "status": "ACTIVE"}]),
        _HELD,
        ("What is a trace?",),
        ("A run",),
    ),
    Case(
        "langfuse_mixed.json",
        whole(
            [
                {"id": "c1", "input": "What is a trace?", "expectedOutput": "A run"},
                {"id": "c2", "input": {"question": "What is a span?"}, "expectedOutput": {"answer": "A step"}},
                {"id": "c3", "input": {"messages": [_say("Hi?")]}, "expectedOutput": None},
                {"id": "c4", "input": {"question": "Where?", "context": "In Lima."}, "expectedOutput": "Lima"},
            ]
        ),
        _HELD,
        ("What is a trace?", "What is a span?", "Hi?"),
        ("A run", "A step", ""),
        left_out=1,
    ),
    Case(
        "langfuse_traces.csv",
        b'id,name,input,output\nc1,chat,"[{""role"":""user"",""content"":""Hi?""}]","{""role"":""assistant"",""content"":""Hi.""}"\n',
        _HELD,
        ("Hi?",),
        ("Hi.",),
    ),
    Case(
        "hub_rows.json",
        whole({"features": [], "rows": [{"row_idx": 0, "row": {"question": "Who?", "answer": "He"}, "truncated_cells": []}]}),
        _HELD,
        ("Who?",),
        ("He",),
    ),
    Case("two_lists.json", whole({"questions": ["Who?", "Where?"], "answers": ["He", "Here"]}), _HELD, ("Who?", "Where?"), ("He", "Here")),
    Case("split.json", whole({"columns": ["question", "answer"], "index": [0], "data": [["Who?", "He"]]}), _HELD, ("Who?",), ("He",)),
    Case(
        "promptfoo_one_text.yaml",
        b"prompts: 'Say {{word}}'\nproviders: [echo]\ntests:\n  - vars: {word: hi}\n    options: {prefix: 'Be kind. '}\n"
        b"    assert: [{type: contains, value: 'I say {{word}}'}]\n",
        "promptfoo configuration",
        ("Be kind. Say hi",),
        ("I say hi",),
    ),
    Case(
        "promptfoo_without_tests.yaml",
        b"prompts: ['Say hello', 'Say bye']\nproviders: [echo]\n",
        "promptfoo configuration",
        ("Say hello", "Say bye"),
    ),
)

REFUSED = (
    Case("mmlu_test.csv", b"Which number is prime?,4,6,7,9,C\nWhich number is even?,1,2,3,5,B\n", "", refused=_ASKED_FOR),
    Case("mmlu_hub.jsonl", lines({"question": "Which?", "subject": "s", "choices": ["0", "4"], "answer": 1}), "", refused=_ASKED_FOR),
    Case(
        "hellaswag.jsonl",
        lines({"ind": 24, "ctx_a": "A man.", "ctx_b": "he", "ctx": "A man. he", "label": 3, "endings": ["a", "b"]}),
        "",
        refused=_ASKED_FOR,
    ),
    Case(
        "arc.jsonl",
        lines({"id": "M", "question": {"stem": "Which?", "choices": [{"text": "a", "label": "A"}]}, "answerKey": "A"}),
        "",
        refused="'stem'",
    ),
    Case(
        "winogrande.jsonl",
        lines({"qID": "3", "sentence": "So _ left.", "option1": "S", "option2": "M", "answer": "2"}),
        "",
        refused=_ASKED_FOR,
    ),
    Case("piqa.jsonl", lines({"goal": "Ready a cage.", "sol1": "With hay.", "sol2": "With jeans."}), "", refused=_ASKED_FOR),
    Case(
        "siqa.jsonl", lines({"context": "C.", "question": "How?", "answerA": "a", "answerB": "b", "answerC": "c"}), "", refused=_ASKED_FOR
    ),
    Case("svamp.jsonl", lines({"ID": "c1", "Body": "There are 87.", "Question": "How many each?", "Answer": 29.0}), "", refused="'Body'"),
    Case("multirc.jsonl", lines({"paragraph": "P.", "question": "Who?", "answer": "a", "label": 0}), "", refused="'paragraph'"),
    Case(
        "coqa.jsonl",
        lines({"source": "w", "story": "S.", "questions": ["When?", "What?"], "answers": {"input_text": ["1", "2"]}}),
        "",
        refused="'story'",
    ),
    Case(
        "self_instruct.jsonl",
        lines({"id": "t", "instruction": "Sort.", "instances": [{"input": "b a", "output": "a b"}]}),
        "",
        refused="'instances'",
    ),
    Case("oasst.jsonl", lines({"message_id": "6", "parent_id": None, "text": "Why?", "role": "prompter"}), "", refused="'role'"),
    Case(
        "oasst_trees.jsonl",
        lines({"message_tree_id": "6", "prompt": {"message_id": "6", "text": "Why?", "role": "prompter", "replies": []}}),
        "",
        refused="'replies'",
    ),
    Case("promptfoo_prompts.yaml", b"prompts: prompts.txt\ntests: [{vars: {q: x}}]\n", "", refused="another file"),
    Case("promptfoo_vars.yaml", b"prompts: ['Q: {{q}}']\ntests: [{vars: 'file://vars.yaml'}]\n", "", refused="no other file"),
    Case(
        "promptfoo_default.yaml",
        b"prompts: ['Q: {{q}}']\ndefaultTest: file://d.yaml\ntests: [{vars: {q: x}}]\n",
        "",
        refused="no other file",
    ),
    Case("promptfoo_scenarios.yaml", b"prompts: ['Q: {{q}}']\nscenarios: [{config: [{vars: {q: x}}]}]\n", "", refused="scenarios"),
    Case(
        "promptfoo_expected.yaml",
        b"prompts: ['Q: {{q}}']\ntests: [{vars: {q: x}, assert: [{type: equals, value: 'file://e.txt'}]}]\n",
        "",
        refused="expects stands in another file",
    ),
)
