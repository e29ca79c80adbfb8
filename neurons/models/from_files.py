"""What transformers reads of a model's files, with what a GGUF file says beyond that, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from neurons.core.errors import ModelError
from neurons.core.progress import Progress
from neurons.models import gguf_rope, plausible
from neurons.models.adapters import WEIGHTS, Adapter, merge
from neurons.models.breakage import reading
from neurons.models.converted import converted
from neurons.models.findings import Finding
from neurons.models.gguf import GGUFHeader
from neurons.models.loading_report import check_encoder, check_shards, report


@dataclass(frozen=True, eq=False)
class ReadModel:
    """A model on the CPU with its tokenizer."""

    model: Any
    tokenizer: Any
    findings: tuple[Finding, ...]


def read_gguf(name: str, header: GGUFHeader, digest: str, dtype: torch.dtype, progress: Progress) -> ReadModel:
    """The model of a GGUF file, through its converted copy where one can be kept. `digest` is the file's SHA-256, hex."""
    with reading(header.path.name):
        folder, found = converted(header, name, digest, progress)
    if folder is None:
        why = Finding("conversion", "note", f"unpacked anew at each load, for about a minute: {found}")
        read = read_model(name, header.path.parent, [header.path], dtype, progress, header=header)
        return ReadModel(read.model, read.tokenizer, (*read.findings, why))
    read = read_model(name, folder, sorted(folder.glob("*.safetensors")), dtype, progress, header=header)
    first = found if isinstance(found, Finding) else read.findings[0]  # of the file's own tensors, not of the copy's
    return ReadModel(read.model, read.tokenizer, (first, *read.findings[1:]))


def read_adapted(adapter: Adapter, base: ReadModel, progress: Progress) -> ReadModel:
    """The base with the adapter merged into its weights, and with the adapter's own tokenizer where it brings one.

    Raises `ModelError` naming a tensor that has no place in the base, and for a tokenizer with more tokens than the base has.
    """
    progress(2, 3, f"merging the adapter {adapter.folder.name}")
    with reading(WEIGHTS):
        merged = merge(adapter, base.model)
    tokenizer = base.tokenizer
    if (adapter.folder / "tokenizer_config.json").is_file():
        with reading("the adapter's tokenizer"):
            tokenizer = AutoTokenizer.from_pretrained(adapter.folder, local_files_only=True, trust_remote_code=False)
        rows = base.model.get_input_embeddings().weight.shape[0]
        if len(tokenizer) > rows:
            raise ModelError(
                f"the tokenizer of the adapter {adapter.folder.name} has {len(tokenizer):,} tokens and its base {rows:,}: it was trained "
                "with more tokens; merge it with peft, and load the merged folder"
            )
    return ReadModel(base.model, tokenizer, (*base.findings, merged))


def read_model(
    name: str, folder: Path, files: Sequence[Path], dtype: torch.dtype, progress: Progress, *, header: GGUFHeader | None = None
) -> ReadModel:
    """The model whose weights are in `files` of `folder`; `header` is that of the GGUF file they are, or were converted from.

    Raises `ModelError` for tensors that are missing, of another shape or read by nothing.
    """
    packed = header is not None and list(files) == [header.path]
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if packed:
        options["gguf_file"] = files[0].name
    else:
        check_shards(folder, files)
    slow = " (a GGUF file takes about a minute)" if packed else ""
    progress(1, 3, f"loading {name}: tokenizer{slow}")
    auto: Any = AutoModelForCausalLM
    settings = files[0].name if packed else "config.json"
    with reading(settings):
        config = AutoConfig.from_pretrained(folder, **options)
        check_encoder(name, config)
        scaled = gguf_rope.scale_config(header, config) if header else False
        with torch.device("meta"):
            plausible.check_size(settings, auto.from_config(config), sum(file.stat().st_size for file in files))
    with reading(f"the tokenizer in {files[0].name}" if packed else "tokenizer.json or tokenizer_config.json"):
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        plausible.check_longest(tokenizer)
    progress(2, 3, f"loading {name}: weights{slow}")
    with reading(", ".join(file.name for file in files[:3])):
        model, info = auto.from_pretrained(
            folder, config=config, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    findings = [report(name, model, info)]
    if header is not None:
        divided = gguf_rope.divide_frequencies(header, model)
        findings.append(gguf_rope.finding(scaled=scaled, divided=divided))
        _end_tokens(header, model)
    return ReadModel(model, tokenizer, tuple(findings))


def _end_tokens(header: GGUFHeader, model: Any) -> None:
    """The file's end of turn and end of message end an answer too; transformers reads its end of text alone."""
    known = model.generation_config.eos_token_id
    ends = list(known) if isinstance(known, list | tuple) else [known]
    ends += [header.metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    model.generation_config.eos_token_id = list(dict.fromkeys(int(end) for end in ends if end is not None)) or None
