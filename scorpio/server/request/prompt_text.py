"""What does the user say in this body? The last user turn, the system prompt, and the turn number.

Every route of vLLM that carries text has one of five shapes; whatever else is there is no text.
Bounded work: only the ends of a long text are ever looked at by the predictor, so only they are
kept, and a conversation is read from its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

KEPT_CHARS: Final = 65_536  # of a text; its head and its tail, when it is longer
MOST_PARTS: Final = 64  # content parts of one message that are looked at
MOST_TURNS: Final = 1000


@dataclass(frozen=True, slots=True)
class PromptText:
    """prompt "" = the body holds no text (token ids, several prompts)."""

    prompt: str = ""
    system: str = ""
    turn: int = 1


NO_TEXT: Final = PromptText()


def prompt_text(body: Mapping[str, object]) -> PromptText:
    """Text of a parsed body; never raises, whatever the body holds."""
    messages = body.get("messages", body.get("input"))  # /v1/responses says `input`
    if isinstance(messages, list):
        return _conversation(messages, body)
    system = _text(body.get("instructions"))
    for said in (messages, body.get("prompt")):
        if isinstance(said, list) and len(said) == 1:
            said = said[0]
        if isinstance(said, str):
            return PromptText(_kept(said), system)
    return NO_TEXT


def _conversation(messages: Sequence[object], body: Mapping[str, object]) -> PromptText:
    """A list of messages; Anthropic's and /v1/responses' system prompt stands beside it."""
    prompt, turn = "", 0
    recent = [m for m in messages[-MOST_TURNS:] if isinstance(m, Mapping)]
    for message in reversed(recent):
        if message.get("role") == "user":
            prompt = prompt or _text(message.get("content"))
            turn += 1
    system = _text(body.get("system")) or _text(body.get("instructions"))
    first = messages[0] if messages else None
    if not system and isinstance(first, Mapping) and first.get("role") in ("system", "developer"):
        system = _text(first.get("content"))
    return PromptText(prompt, system, max(turn, 1))


def _text(content: object) -> str:
    """Text of a message's content: a string, or the text parts of a list."""
    if isinstance(content, str):
        return _kept(content)
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") for part in content[:MOST_PARTS] if isinstance(part, Mapping)]
    return _kept("\n".join(text for text in texts if isinstance(text, str)))


def _kept(text: str) -> str:
    half = KEPT_CHARS // 2
    return text if len(text) <= KEPT_CHARS else text[:half] + text[-half:]
