"""What of a text a person sees."""

from __future__ import annotations

import unicodedata

_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # controls, marks of direction, halves of pairs, separators of lines


_JOINERS = ("\u200c", "\u200d")  # Persian and many emoji are written with them


def unseen(letter: str) -> bool:
    """Does it show nothing itself, and change how what stands beside it is shown?"""
    return letter not in _JOINERS and unicodedata.category(letter) in _UNSEEN
