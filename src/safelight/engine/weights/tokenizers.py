"""CLIP's tokenizer: from a model's folder, from a file's metadata, or built from the vocabulary that ships with us."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from safelight.catalog.folders import read_json
from safelight.errors import UnreadableFile

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
_MERGES = 49152 - 256 - 2
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class ClipTokenizer:
    """A tokenizer and what surrounds a prompt. `length`: tokens that a prompt is padded to, 0 where nobody says.

    The padding is a number only: where it is "!" (Stable Diffusion 2), a "!" in a prompt is still that word, as it was
    in training (OpenCLIP); transformers would take it for padding.
    """

    tokens: Tokenizer
    begin: int
    end: int
    padding: int
    length: int = 0

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a piece of text, without begin and end."""
        return list(self.tokens.encode(text, add_special_tokens=False).ids)


def shipped_clip(padding: str = END) -> ClipTokenizer:
    """CLIP's own vocabulary. `padding`: Stable Diffusion 1 fills up with the end, 2 with "!" (id 0).

    Built as CLIP does: 256 bytes, the same at a word's end, the first 48,894 merges, begin and end. Radford et al.
    (2021), github.com/openai/CLIP `simple_tokenizer.py`.
    """
    packed = (files("safelight") / "data/tokenizers/clip/bpe_simple_vocab_16e6.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : _MERGES + 1]
    merges = [(first, second) for first, second in (line.split() for line in lines)]
    letters = list(_byte_letters())
    words = [*letters, *(letter + "</w>" for letter in letters), *(a + b for a, b in merges), BEGIN, END]
    return _named(build_clip({word: place for place, word in enumerate(words)}, merges), {"pad_token": padding})


def build_clip(vocabulary: Mapping[str, int], merges: list[tuple[str, str]]) -> Tokenizer:
    """A byte-level BPE with CLIP's normalisation and word pattern, in whatever file its words came."""
    tokens = Tokenizer(
        BPE(
            vocab=dict(vocabulary),
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
            unk_token=END,
        )
    )
    tokens.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokens.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokens.decoder = decoders.ByteLevel()
    tokens.add_special_tokens(
        [AddedToken(word, special=True, normalized=False) for word in (BEGIN, END) if word in vocabulary]
    )
    return tokens


def clip_from_text(content: str, config: Mapping[str, Any], source: str) -> ClipTokenizer:
    """From the text of a tokenizer.json and the table of a tokenizer_config.json; `source` names them in errors."""
    try:
        model = json.loads(content)["model"]
        vocabulary, merges = model["vocab"], [_pair(line) for line in model["merges"]]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise UnreadableFile(
            f"{source} holds no byte-pair tokenizer ({error}).", "Save the tokenizer again."
        ) from error
    return _named(_checked(vocabulary, merges, source), config, source)


def clip_from_folder(folder: Path) -> ClipTokenizer:
    """From a tokenizer's folder: tokenizer.json, or vocab.json and merges.txt. UnreadableFile without."""
    config = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    if (folder / "special_tokens_map.json").is_file():
        config = read_json(folder / "special_tokens_map.json") | config
    if (folder / "tokenizer.json").is_file():
        return clip_from_text((folder / "tokenizer.json").read_text(encoding="utf-8"), config, str(folder))
    vocabulary, merges = read_json(folder / "vocab.json"), folder / "merges.txt"
    if not merges.is_file():
        raise UnreadableFile(f"{merges} is missing.", "The folder is not whole.")
    lines = merges.read_text(encoding="utf-8").split("\n")
    pairs = [_pair(line) for line in lines if line.strip() and not line.startswith("#version")]
    return _named(_checked(vocabulary, pairs, str(folder)), config, str(folder))


def _pair(line: Any) -> tuple[str, str]:
    """A merge: "a b", or [a, b]."""
    first, second = line.split() if isinstance(line, str) else line
    return str(first), str(second)


def _checked(vocabulary: Any, merges: list[tuple[str, str]], source: str) -> Tokenizer:
    """A tokenizer of words and merges that agree with each other."""
    whole = isinstance(vocabulary, dict) and all(type(number) is int for number in vocabulary.values())
    if not whole or any(word not in vocabulary for a, b in merges for word in (a, b, a + b)):
        raise UnreadableFile(f"{source}: its merges are not of its words.", "Save the tokenizer again.")
    return build_clip(vocabulary, merges)


def _named(tokens: Tokenizer, config: Mapping[str, Any], source: str = "CLIP") -> ClipTokenizer:
    """Look the special tokens up by their words; what the configuration leaves open is CLIP's."""

    def number(role: str, usual: str) -> int:
        said = config.get(role) or usual
        word = said.get("content", usual) if isinstance(said, dict) else str(said)
        found: int | None = tokens.token_to_id(word)
        if found is None:
            raise UnreadableFile(f"{source}: its {role} {word!r} is no word of the tokenizer.", "Save it again.")
        return found

    end = config.get("eos_token") or END
    length = config.get("model_max_length")
    return ClipTokenizer(
        tokens,
        number("bos_token", BEGIN),
        number("eos_token", END),
        number("pad_token", end.get("content", END) if isinstance(end, dict) else str(end)),
        length if isinstance(length, int) and 2 < length < 1 << 20 else 0,
    )


def _byte_letters() -> Iterator[str]:
    """A printable letter for each byte, in CLIP's order: those that are printable, then the others moved past 255."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    yield from map(chr, plain)
    yield from (chr(256 + place) for place in range(256 - len(plain)))
