"""What recording every activation costs, against plain `generate` of the same tokens, with peer libraries beside it.

Each round runs every contender once on the same prompt and the same answer tokens, in turn, so that a busy machine slows all of them
alike. Printed: the median over rounds of each contender's time divided by plain generate's time in the same round, and the median
seconds. Peers (nnsight, TransformerLens) take part when they are installed: pip install '.[bench]'.

    python bench/capture.py [--model default] [--tokens 64] [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch

from neurons.core.json_text import json_text

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neurons.core.types import Message, Sampling
from neurons.models.chat import encode_prompt
from neurons.models.load import load_model
from neurons.models.loaded import LoadedModel
from neurons.runs.generation import generate

PROMPT = "Explain in plain words how a bicycle stays upright, and why it is harder to balance when it stands still."
LIMIT = 1.10
"""Recording may cost this much: the project's own bound."""


def plain(loaded: LoadedModel, ids: tuple[int, ...], tokens: int) -> list[int]:
    """transformers' generate, greedy, exactly `tokens` new tokens."""
    given = torch.tensor([ids], device=loaded.device)
    options: dict[str, Any] = {"do_sample": False, "max_new_tokens": tokens, "min_new_tokens": tokens, "eos_token_id": None}
    with torch.no_grad():
        out = cast(Any, loaded.model).generate(given, attention_mask=torch.ones_like(given), pad_token_id=0, **options)
    return [int(token) for token in out[0, len(ids) :]]


def ours(loaded: LoadedModel, ids: tuple[int, ...], answer: list[int], *, record: bool) -> Any:
    """Our own loop over the same tokens: activations of all layers, top-k, ranks and entropies of every token."""
    return generate(loaded, ids, sampling=Sampling(max_new_tokens=len(answer)), record=record, forced_ids=answer)


def with_nnsight(loaded: LoadedModel) -> Callable[[tuple[int, ...], int], Any]:
    """nnsight, on a copy of the model: the input of every down projection saved at every step."""
    from nnsight import TransformersModel

    lens = TransformersModel(copy.deepcopy(loaded.model), tokenizer=loaded.tokenizer)

    def run(ids: tuple[int, ...], tokens: int) -> Any:
        given = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        with torch.no_grad(), lens.generate(given, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False) as tracer:
            acts: Any = list().save()  # type: ignore[attr-defined] # noqa: C408  # nnsight adds `save` to every object
            for _ in tracer.iter[:tokens]:
                for layer in lens.model.layers:
                    acts.append(layer.mlp.down_proj.input)
        return acts

    return run


def with_transformer_lens(loaded: LoadedModel) -> Callable[[tuple[int, ...], int], Any]:
    """TransformerLens' bridge around a copy of the same weights (it rebuilds the modules): a hook on each down projection's input."""
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(
        "HuggingFaceTB/SmolLM2-135M-Instruct", hf_model=copy.deepcopy(loaded.model), tokenizer=loaded.tokenizer
    )
    names = [name for name in bridge.hook_dict if name.endswith("mlp.out.hook_in")]
    if len(names) != loaded.n_layers:
        raise RuntimeError(f"TransformerLens has {len(names)} hook points that fit, for {loaded.n_layers} layers")

    def run(ids: tuple[int, ...], tokens: int) -> Any:
        kept: list[torch.Tensor] = []

        def keep(acts: torch.Tensor, hook: Any) -> None:
            kept.append(acts.clone())

        with torch.no_grad(), bridge.hooks(fwd_hooks=[(name, keep) for name in names]):
            bridge.generate(
                torch.tensor([ids]), max_new_tokens=tokens, do_sample=False, stop_at_eos=False, verbose=False, return_type="tokens"
            )
        return kept

    return run


def contenders(loaded: LoadedModel, ids: tuple[int, ...], answer: list[int]) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
    """Name -> what to time, plain generate first; and what could not take part, with the reason."""
    found: dict[str, Callable[[], Any]] = {
        "plain generate": lambda: plain(loaded, ids, len(answer)),
        "neuronscope, recording": lambda: ours(loaded, ids, answer, record=True),
        "neuronscope, not recording": lambda: ours(loaded, ids, answer, record=False),
    }
    absent: dict[str, str] = {}
    for name, make in (("nnsight", with_nnsight), ("TransformerLens", with_transformer_lens)):
        try:
            run = make(loaded)
            kept = run(ids, len(answer))
        except ModuleNotFoundError as error:
            absent[name] = f"{error.name} is not installed"
            continue
        except Exception as error:  # noqa: BLE001  # a peer that fails must not hide the others' numbers
            absent[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
            continue
        tensors = [item for item in kept if isinstance(item, torch.Tensor)]
        seen = sum(tensor.shape[-2] if tensor.dim() > 1 else 1 for tensor in tensors) // loaded.n_layers
        found[f"{name}, recording {seen} tokens"] = lambda run=run: run(ids, len(answer))  # type: ignore[misc]
    return found, absent


def measure(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            took = time.perf_counter() - started
            print(f"round {number}, {name}: {took:.2f} s{'' if number else ' (warming up)'}", file=sys.stderr)
            if number:
                seconds[name].append(took)
    return seconds


def main() -> int:
    """Measure, print, and say by the exit status whether recording keeps to its bound."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", dest="as_json")
    options = parser.parse_args()

    loaded = load_model(options.model)
    ids = encode_prompt(loaded, [Message("user", PROMPT)]).ids
    answer = plain(loaded, ids, options.tokens)
    run = ours(loaded, ids, answer, record=True)
    assert list(run.answer_ids) == answer
    assert run.acts_LTI.shape[1] == len(ids) + len(answer)
    runs, absent = contenders(loaded, ids, answer)
    seconds = measure(runs, options.rounds)
    base = seconds["plain generate"]
    rows = {
        name: {
            "ratio": statistics.median(mine / theirs for mine, theirs in zip(times, base, strict=True)),
            "seconds": statistics.median(times),
        }
        for name, times in seconds.items()
    }
    result = {
        "model": loaded.ref.name,
        "device": loaded.ref.device,
        "dtype": loaded.ref.dtype,
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "prompt_tokens": len(ids),
        "answer_tokens": len(answer),
        "rounds": options.rounds,
        "limit": LIMIT,
        "results": rows,
        "absent": absent,
    }
    if options.as_json:
        print(json_text(result, indent=2))
    else:
        print(f"{result['model']}, {result['dtype']} on {result['device']}, {len(ids)} + {len(answer)} tokens, {options.rounds} rounds")
        for name, row in rows.items():
            print(f"  {name:40} {row['ratio']:6.2f} x  {row['seconds']:7.2f} s  {len(answer) / row['seconds']:6.1f} tok/s")
        for name, reason in absent.items():
            print(f"  {name:40} absent: {reason}")
    return 0 if rows["neuronscope, recording"]["ratio"] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
