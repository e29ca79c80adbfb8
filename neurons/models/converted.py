"""GGUF files read once: what transformers makes of one is kept as float32 safetensors with its tokenizer, which load in seconds.

transformers unpacks a GGUF file in Python each time, and builds its tokenizer from lists of strings. A copy is named by the SHA-256 of
the file, so a file that was moved is known and one that was changed is not. It is written whole or not at all, and used only while its
files are as they were written. The copies used longest ago go when all take more than the budget.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers

from neurons.core.errors import ModelError, NotFound, StoreError
from neurons.core.home import home, subfolder
from neurons.core.progress import Progress
from neurons.models.exclusive import one_at_a_time
from neurons.models.findings import Finding
from neurons.models.gguf import GGUFHeader
from neurons.models.weights import hash_stamp, read_json
from neurons.storage.files import atomic_folder, sha256_of, sweep_leftovers, tree_size, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION = 1
"""Raised when the copies change, so that older ones are made anew."""
BUDGET_VARIABLE = "NEURONSCOPE_CONVERTED_GB"
BUDGET_GB = 20.0
MANIFEST = "neuronscope-converted.json"
_SPARE_BYTES = 500_000_000
"""What stays free on the disk."""
_PROBES = (
    "The quick brown fox: it's 3.14, isn't it?\n\n  def f(x):\n\treturn x  # 1,000",
    "Größe Straße naïve 東京 Привет مرحبا 🙂👩\u200d🔬",
    "  leading and trailing  ",
    "<s></s><bos><eos><|im_start|>user<|im_end|><start_of_turn>",
    "",
)


@dataclass(frozen=True)
class Converted:
    """A copy that is kept."""

    weights_hash: str
    name: str
    source: str
    """Where the GGUF file was when it was converted."""
    folder: Path
    disk_bytes: int
    used: float
    """When it was last loaded, seconds since 1970."""


def kept() -> tuple[Converted, ...]:
    """The copies, the one used last first."""
    found = []
    for path in _root().glob(f"*/{MANIFEST}"):
        with suppress(ModelError, OSError):
            said = read_json(path)
            digest, name, source = (str(said.get(key, "")) for key in ("weights_hash", "name", "source"))
            found.append(Converted(digest, name, source, path.parent, tree_size(path.parent), path.stat().st_mtime))
    return tuple(sorted(found, key=lambda copy: -copy.used))


def copy_of(weights_hash: str) -> Path | None:
    """The folder of a whole copy, of this version of transformers; None where there is none."""
    found = _find(weights_hash)
    return found[0] if found is not None else None


def remove(weights_hash: str) -> Converted:
    """Remove a copy; the GGUF file stays. `weights_hash` may be its first characters, or the file's path.

    Raises `NotFound` where none or several begin so, `StoreError` where the disk refuses.
    """
    path = str(Path(weights_hash).expanduser().absolute())
    there = [copy for copy in kept() if copy.source == path or (weights_hash and copy.weights_hash.startswith(weights_hash))]
    if len(there) != 1:
        raise NotFound(f"{len(there) or 'no'} converted copies are called {weights_hash[:80]!r}; `neuronscope models list` names them")
    shutil.rmtree(there[0].folder, ignore_errors=True)
    if there[0].folder.exists():
        raise StoreError(f"{there[0].folder} cannot be removed; check that you may change this folder")
    return there[0]


def converted(header: GGUFHeader, name: str, digest: str, progress: Progress) -> tuple[Path | None, Finding | str]:
    """(the folder of the copy, what was found of its weights), made first where there is none; (None, why) where none can be kept.

    `digest` is the SHA-256 of the file, hex. Raises what transformers raises for a file that it cannot read, and `ModelError` for
    tensors that are missing, of another shape or read by nothing.
    """
    if (there := _find(digest)) is not None:
        return there
    if why := _no_room(header):
        return None, why
    waiting = f"another process is converting {name}; waiting for it"
    with one_at_a_time(subfolder("converted") / ".lock", progress, waiting):
        if (there := _find(digest)) is not None:
            return there
        sweep_leftovers(_root())
        try:
            _convert(header, name, digest, progress)
        except (OSError, StoreError) as error:
            return None, f"it could not be written ({getattr(error, 'strerror', None) or error})"
        return _find(digest) or (None, "what was written cannot be read back")


def budget_bytes() -> float:
    """Bytes that the copies may take together. Raises `ModelError` where the environment names no number of gigabytes."""
    text = os.environ.get(BUDGET_VARIABLE, "").strip()
    try:
        gigabytes = float(text) if text else BUDGET_GB
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < float("inf"):
        raise ModelError(f"{BUDGET_VARIABLE} is {text!r}; write a number of gigabytes, such as 20, or 0 to keep no converted models")
    return gigabytes * 1e9


def _root() -> Path:
    return home() / "converted"


def _place(digest: str) -> Path:
    return _root() / digest[:32]


def _find(digest: str) -> tuple[Path | None, Finding | str] | None:
    """What an earlier conversion left: a whole copy of the present version and transformers, or why there is none."""
    manifest = _place(digest) / MANIFEST
    try:
        said = read_json(manifest) if manifest.is_file() else {}
    except ModelError:
        return None
    if (said.get("weights_hash"), said.get("version"), said.get("transformers")) != (digest, VERSION, transformers.__version__):
        return None
    with suppress(OSError):
        os.utime(manifest)  # the one used last goes last
    if refused := said.get("refused"):
        return None, str(refused)
    try:
        whole = all(hash_stamp(manifest.parent / file, stamp[2]) == stamp for file, stamp in said["files"].items())
        return (manifest.parent, Finding(**said["finding"])) if whole else None
    except (OSError, KeyError, TypeError, IndexError, AttributeError):
        return None


def _no_room(header: GGUFHeader) -> str:
    """Why no copy is made; "" where there is room, older copies making it."""
    needed, budget = 4 * header.parameters, budget_bytes()
    if needed > budget:
        return f"its copy would take {needed / 1e9:.1f} GB and {budget / 1e9:g} GB are for converted models ({BUDGET_VARIABLE})"
    free = shutil.disk_usage(home()).free
    if needed + _SPARE_BYTES > free:
        return f"its copy would take {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB free"
    return ""


def _make_room(needed: int) -> None:
    copies = list(kept())
    while copies and sum(copy.disk_bytes for copy in copies) + needed > budget_bytes():
        shutil.rmtree(copies.pop().folder, ignore_errors=True)


def _convert(header: GGUFHeader, name: str, digest: str, progress: Progress) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from neurons.models import gguf_rope
    from neurons.models.loading_report import report

    folder, options = header.path.parent, {"gguf_file": header.path.name, "local_files_only": True, "trust_remote_code": False}
    told = f"converting {name} (once; later it loads in seconds)"
    progress(0, 4, f"{told}: reading the tokenizer")
    config: Any = AutoConfig.from_pretrained(folder, **options)
    plain = copy.deepcopy(config)
    gguf_rope.scale_config(header, config)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, **options)
    progress(1, 4, f"{told}: unpacking the weights")
    auto: Any = AutoModelForCausalLM
    with _counted(progress, f"{told}: unpacking the weights"):
        model, info = auto.from_pretrained(
            folder, config=config, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    finding = report(name, model, info)
    progress(2, 4, f"{told}: writing")
    _make_room(4 * header.parameters)
    with atomic_folder(_place(digest), replace=True) as temporary:
        _write(temporary, model, plain, tokenizer)
        progress(3, 4, f"{told}: comparing")
        refused = _differs(temporary, model, tokenizer)
        if refused:
            _empty(temporary)
        files = {file.name: hash_stamp(file, sha256_of(file)) for file in sorted(temporary.iterdir())}
        write_json(
            temporary / MANIFEST,
            {
                "format": "neuronscope-converted",
                "version": VERSION,
                "transformers": transformers.__version__,
                "weights_hash": digest,
                "name": name,
                "source": str(header.path),
                "refused": refused,
                "finding": asdict(finding),
                "files": files,
            },
        )


@contextmanager
def _counted(progress: Progress, told: str) -> Iterator[None]:
    """transformers' own bar over a file's tensors, which it draws in any case, becomes our progress while the block lasts."""
    import transformers.modeling_gguf_pytorch_utils as theirs

    def bar(tensors: Iterable[Any], **_: Any) -> Iterator[Any]:
        every = list(tensors)
        for done, tensor in enumerate(every):
            progress(done, len(every), told)
            yield tensor

    module: Any = theirs
    own = getattr(module, "tqdm", None)
    if own is None:  # another version, with another bar
        yield
        return
    module.tqdm = bar
    try:
        yield
    finally:
        module.tqdm = own


def _write(folder: Path, model: Any, config: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """`config` is the file's own, before its position code was put in: that is done at each load."""
    import torch
    from transformers import AutoModelForCausalLM

    # transformers refuses to save a model that came from a GGUF file: the same one is built anew, without memory, over the same weights.
    for settings in (config, model.config):
        if hasattr(settings, "quantization_config"):
            del settings.quantization_config
    auto: Any = AutoModelForCausalLM
    with torch.device("meta"):
        twin = auto.from_config(model.config, dtype=torch.float32)
    twin.load_state_dict(model.state_dict(), assign=True)
    twin.tie_weights()
    twin.generation_config = model.generation_config
    twin.save_pretrained(folder, max_shard_size="100TB")
    config.architectures = [type(model).__name__]
    config.dtype = torch.float32
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _differs(folder: Path, model: Any, tokenizer: PreTrainedTokenizerBase) -> str:
    """What the copy has otherwise than the file: "" where it has the same weights to the bit and cuts texts into the same tokens."""
    import torch
    from safetensors import safe_open
    from transformers import AutoTokenizer

    state = model.state_dict()
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        names = set(weights.keys())
        for key in names:
            if key not in state or not torch.equal(weights.get_tensor(key), state[key]):
                return f"its copy has other weights in {key}"
    held = {state[key].data_ptr() for key in names}
    if unsaved := [key for key, tensor in state.items() if key not in names and tensor.data_ptr() not in held]:
        return f"its copy lacks {unsaved[0]}"
    again: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if _cuts(again) != _cuts(tokenizer):
        return "the copy of its tokenizer cuts texts otherwise"
    return ""


def _cuts(tokenizer: Any) -> tuple[Any, ...]:
    """What has to be the same of a tokenizer: its template, special tokens, words, and how it cuts and joins some texts."""
    ids = [tokenizer(text, add_special_tokens=special)["input_ids"] for text in _PROBES for special in (True, False)]
    special = [getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad", "unk")]
    return tokenizer.chat_template, special, tokenizer.get_vocab(), ids, [tokenizer.decode(one) for one in ids]


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
