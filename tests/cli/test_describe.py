"""`neuronscope describe explain` against a real HTTP server, on a tiny model's atlas."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from neurons.cli.main import build
from tests.support.endpoint_server import Reply, chat_reply, serving


def run(*arguments: str | Path, status: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(build(), [*map(str, arguments), "--json"])
    assert result.exit_code == status, result.output
    return json.loads(result.stdout if status == 0 else result.stderr.strip().splitlines()[-1])  # type: ignore[no-any-return]


def yes(request: dict[str, Any], n: int) -> Reply:
    """Writes a headline, once under a wrong key, and finds that every headline fits everything."""
    prompt = str(request["messages"][0]["content"])
    if prompt.startswith("You describe"):
        return chat_reply('{"title": "letters"}' if n == 2 else '{"headlines": ["letters"]}')
    return chat_reply(json.dumps([1] * len(re.findall(r"^\d+\. ", prompt, re.MULTILINE))) if "Below are" in prompt else "yes")


def test_headlines_are_asked_for_judged_and_forecast(home: Path, model: str, tmp_path: Path) -> None:
    rng = random.Random(0)
    stories = [json.dumps({"text": " ".join(rng.choices(["the", "cat", "sat", "on", "seven", "red", "mats"], k=80))}) for _ in range(24)]
    (tmp_path / "stories.jsonl").write_text("\n".join(stories))
    run("atlas", "build", "--no-concepts", "--no-probe", "--model", model, "--corpus", tmp_path / "stories.jsonl", "--extremes", "64")
    rows = "".join(f"0,{n},+,cats\n" for n in range(1, 9))
    (tmp_path / "d.csv").write_text(f"layer,neuron,polarity,description\n{rows}")
    run("atlas", "import", tmp_path / "d.csv", "--model", model)
    with serving(yes) as server:
        asked = ("describe", "explain", "--model", model, "--endpoint", server.url, "--endpoint-model", "m", "--concurrency", "1")
        done = run(*asked, "--neurons", "0:1,0:2")
        assert (done["replaced"], done["kept"], done["failed"]) == (0, 1, 1)
        assert done["failures"] == {'wrong key: "headlines" was asked for, the answer has "title"': 1}
        found = run(*asked, "--limit", "8", "--forecast")["forecast"]
        assert found["sides"] == 8 - 1 - 3  # one was answered, three are asked about for the forecast
        assert found["seconds"] > 0
        assert run(*asked, "--limit", "8")["kept"] == 8
    assert "give the address" in run("describe", "explain", "--model", model, status=2)["error"]
