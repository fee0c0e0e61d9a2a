"""Which studies are published, and what does each ask? By the name of its page; light to import."""

from __future__ import annotations

from collections.abc import Mapping

QUESTIONS: Mapping[str, str] = {
    "loads": "Which system keeps its promises as the load grows?",
    "grid": "Is Scorpio ever worse than a rival?",
    "light_load": "Is Scorpio like stock vLLM at light load?",
    "lengths": "What is a length prediction worth, and where?",
    "drafts": "What do drafts bring where each request has as many as pay?",
    "fleet": "What does the router of a fleet bring?",
    "fallback": "What does a cheaper deployment bring that requests may fall back to?",
    "autoscale": "Do replicas that come and go keep promises, and what do they cost?",
    "ablation": "What does each part of the policy bring?",
    "robustness": "What breaks Scorpio, and how badly?",
    "tracking": "Does Scorpio follow an engine that changes?",
    "quotes": "Does a quoted SLO hold?",
    "mistakes": "Which requests are refused, or let in, by mistake?",
    "fidelity": "How near is the twin to a real engine?",
    "paper": "Do the paper's figures come out of the twin?",
}
