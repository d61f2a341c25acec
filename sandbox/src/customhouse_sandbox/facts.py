"""Facts that nobody has confirmed with a live account: each can be switched, and what stands on it is tested both ways."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """One open question about a provider."""

    name: str
    choices: tuple[str, ...]
    """What it may turn out to be; the first is assumed."""
    question: str
    cites: str
    """Where the doubt stands in the providers' facts."""
