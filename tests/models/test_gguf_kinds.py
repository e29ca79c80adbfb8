"""Every kind of block a GGUF file may hold: the weights that are run are what the blocks stand for, or the kind is refused by name."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.typing import NDArray

from neurons.core.errors import NeuronscopeError
from neurons.models.load import load_model
from tests.support.gguf_files import write_gguf

WIDTH = 256
"""A multiple of every kind's block."""
_PLAIN = ("F32", "F16", "BF16")
_WRITTEN = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4")
"""Kinds that the gguf package writes."""
_DRAWN = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ1_M", "IQ4_NL", "IQ4_XS")
"""Kinds that it reads only: blocks of random bytes."""
_UNREAD = ("Q8_1", "Q8_K")


def packed(array: NDArray[np.float32], kind: gguf.GGMLQuantizationType, rng: np.random.Generator) -> NDArray[np.uint8]:
    """An array's blocks in a kind; where the kind is only read, random blocks that stand for finite numbers."""
    try:
        return gguf.quants.quantize(array, kind)
    except NotImplementedError:
        pass
    block, size = gguf.GGML_QUANT_SIZES[kind]
    rows = array.reshape(-1, block)
    drawn = rng.integers(0, 256, (len(rows), size), dtype=np.uint8)
    try:
        with np.errstate(all="ignore"):
            while (bad := ~(np.abs(gguf.quants.dequantize(drawn, kind)) < 1e3).all(1)).any():
                drawn[bad] = rng.integers(0, 256, (int(bad.sum()), size), dtype=np.uint8)
    except NotImplementedError:  # a kind that nobody reads
        pass
    return drawn.reshape(*array.shape[:-1], array.shape[-1] // block * size)


@pytest.mark.parametrize("name", [*_PLAIN, *_WRITTEN, *_DRAWN])
def test_weights_are_what_the_blocks_stand_for(name: str, tmp_path: Path) -> None:
    kind, rng = gguf.GGMLQuantizationType[name], np.random.default_rng(7)
    path = write_gguf(tmp_path / "tiny.gguf", width=WIDTH, pack=lambda array: (packed(array, kind, rng), kind))
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    loaded = load_model(str(path), device="cpu")
    for layer, block in enumerate(loaded.model.model.layers):
        for ours, theirs in (("gate_proj", "ffn_gate"), ("up_proj", "ffn_up"), ("down_proj", "ffn_down")):
            tensor = stored[f"blk.{layer}.{theirs}.weight"]
            assert tensor.tensor_type == kind
            expected = gguf.quants.dequantize(tensor.data, kind)
            np.testing.assert_allclose(getattr(block.mlp, ours).weight.detach().float().numpy(), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", _UNREAD)
def test_a_kind_that_cannot_be_read_is_refused_by_name(name: str, tmp_path: Path) -> None:
    kind, rng = gguf.GGMLQuantizationType[name], np.random.default_rng(7)
    path = write_gguf(tmp_path / "tiny.gguf", width=WIDTH, pack=lambda array: (packed(array, kind, rng), kind))
    with pytest.raises(NeuronscopeError, match=name):
        load_model(str(path), device="cpu")
