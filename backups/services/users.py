"""Who else needs recovery points now: apps above this one say so, and we never have to know them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backups.models import BackupPart

# Answers with a sentence about who uses one of the parts at this moment; "" means nobody.
Question = Callable[[Sequence[BackupPart]], str]

_QUESTIONS: dict[str, Question] = {}


def register(name: str, question: Question) -> None:
    """From now on nothing is deleted before this question was asked."""
    _QUESTIONS[name] = question


def sentence(parts: Sequence[BackupPart]) -> str:
    """The first user's sentence; "" when nobody needs any of the parts."""
    return next((words for question in _QUESTIONS.values() if (words := question(parts))), "")
