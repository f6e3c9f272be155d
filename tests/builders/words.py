"""A small CLIP tokenizer, trained on a few lines, with the ids in CLIP's order."""

from __future__ import annotations

import json

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

CORPUS = [
    "a photo of a cat on a beach, highly detailed, masterpiece",
    "a red house at night with a yellow balloon over snowy mountains",
    "the quick brown fox jumps over the lazy dog 0123456789 (best quality:1.2), [blurry], BREAK worst quality",
]


def tiny_clip_tokenizer(pad: str = "<|endoftext|>", size: int = 600) -> CLIPTokenizer:
    """256 bytes, 256 bytes at a word's end, merges, begin and end, as CLIP's; 77 tokens a prompt."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size, show_progress=False, end_of_word_suffix="</w>", initial_alphabet=letters
    )
    trained.train_from_iterator(CORPUS * 4, trainer)
    vocabulary = {word: place for place, word in enumerate([*letters, *(each + "</w>" for each in letters)])}
    merges = []
    for line in json.loads(trained.to_str())["model"]["merges"]:
        first, second = line.split(" ") if isinstance(line, str) else line
        if first in vocabulary and second in vocabulary:
            vocabulary.setdefault(first + second, len(vocabulary))
            merges.append((first, second))
    for word in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[word] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad, model_max_length=77)
