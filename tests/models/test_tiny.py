"""Is the tiny model deterministic, loadable, and sensitive to its whole context?"""

from __future__ import annotations

from pathlib import Path

import pytest

from scorpio.models.digest import file_sha256
from scorpio.models.tiny import READABLE_IDS, VOCABULARY, write_tiny_model


def _digests(directory: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in directory.iterdir()}


def test_same_seed_same_bytes(tmp_path: Path, tiny_model: Path) -> None:
    again = write_tiny_model(tmp_path / "again")
    other = write_tiny_model(tmp_path / "other", seed=1)
    assert _digests(again) == _digests(tiny_model)
    different = {n for n, d in _digests(other).items() if d != _digests(again)[n]}
    assert different == {"model.safetensors"}


def test_tokenizer_keeps_any_text_and_has_a_chat_template(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    text = "Grüße, 世界 <tag>\n\ttab"
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) == len(text.encode())
    assert len(tokenizer) == VOCABULARY
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat == "<|user|>hi<|assistant|>"
    assert tokenizer.decode(list(range(READABLE_IDS))) == "".join(map(chr, range(33, 127)))


def test_greedy_answers_depend_on_the_first_token_and_are_readable(tiny_model: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs an extra with vLLM")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    prompts = torch.tensor([[40, 1, 2, 3, 4, 5, 6, 7], [41, 1, 2, 3, 4, 5, 6, 7]])
    answers = [
        model.generate(p[None], max_new_tokens=32, do_sample=False)[0, 8:].tolist() for p in prompts
    ]
    assert answers[0] != answers[1]
    assert all(len(answer) == 32 for answer in answers)
    assert all(token < READABLE_IDS for answer in answers for token in answer)
