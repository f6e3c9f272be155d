"""CLIP's tokenizer in each form it comes in."""

from __future__ import annotations

import json

import pytest
from tests.builders.words import tiny_clip_tokenizer
from transformers import CLIPTokenizer

from safelight.engine.weights.tokenizers import clip_from_folder, clip_from_text, shipped_clip
from safelight.errors import UnreadableFile

TEXTS = [
    "a photo of a cat",
    "A Photo  of\ta\nCAT",
    "",
    " ",
    "it's the dog's 1024x768 picture!!! (best quality:1.2), [blurry]",
    "café naïve Ünïcode ﬁ",
    "日本語のテキスト 🐱🏳️‍🌈",
    "<|endoftext|> inside <|startoftext|>",
    "don't we'll I'd they've",
    "a</w> b\u00a0c\u2028d",
    "..., --- ???!",
]


def test_the_well_known_ids():
    clip = shipped_clip()
    assert clip.tokenize("a photo of a cat") == [320, 1125, 539, 320, 2368]
    assert (clip.begin, clip.end, clip.padding) == (49406, 49407, 49407)
    assert shipped_clip("!").padding == 0
    assert clip.tokens.get_vocab_size() == 49408


@pytest.mark.parametrize("text", TEXTS)
def test_the_shipped_one_is_transformers_clip_tokenizer(text):
    clip = shipped_clip()
    model = json.loads(clip.tokens.to_str())["model"]
    theirs = CLIPTokenizer(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
    assert clip.tokenize(text) == theirs(text, add_special_tokens=False).input_ids


def saved(tmp_path, pad="!"):
    tokenizer = tiny_clip_tokenizer(pad)
    tokenizer.save_pretrained(tmp_path)
    return tokenizer


def same(ours, theirs):
    assert (ours.begin, ours.end, ours.padding) == (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id)
    plain = tiny_clip_tokenizer()
    for text in TEXTS:
        assert ours.tokenize(text) == plain(text, add_special_tokens=False).input_ids


def test_from_a_folder_with_tokenizer_json(tmp_path):
    theirs = saved(tmp_path)
    ours = clip_from_folder(tmp_path)
    same(ours, theirs)
    assert ours.length == 77


def test_from_a_folder_with_vocabulary_and_merges(tmp_path):
    """The layout of the published Stable Diffusion folders; special tokens are words or tables."""
    theirs = saved(tmp_path)
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<|endoftext|>"}}))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": "!"}))
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    lines = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")
    same(clip_from_folder(tmp_path), theirs)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(UnreadableFile, match=r"merges.txt is missing"):
        clip_from_folder(tmp_path)


@pytest.mark.parametrize(
    ("content", "config", "message"),
    [
        ("{", {}, "holds no byte-pair tokenizer"),
        ("[]", {}, "holds no byte-pair tokenizer"),
        ('{"model": {"vocab": {"a": 0}, "merges": ["a b"]}}', {}, "merges are not of its words"),
        ('{"model": {"vocab": {"a": "0"}, "merges": []}}', {}, "merges are not of its words"),
        ('{"model": {"vocab": {"a": 0}, "merges": ["a b c"]}}', {}, "holds no byte-pair tokenizer"),
        (
            '{"model": {"vocab": {"<|startoftext|>": 0, "<|endoftext|>": 1}, "merges": []}}',
            {"pad_token": "<pad>"},
            "its pad_token '<pad>' is no word",
        ),
    ],
)
def test_what_is_no_tokenizer_is_refused(content, config, message):
    with pytest.raises(UnreadableFile, match=message):
        clip_from_text(content, config, "model.safetensors")
