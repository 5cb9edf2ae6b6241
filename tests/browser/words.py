"""The words on the pages in a language, from where the console itself has them: a journey presses what is written."""

from __future__ import annotations

import gettext
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = ("django.contrib.admin", "django.contrib.auth", "allauth", "django.conf")
CATALOGUES = {"en": "", "zh-hans": "zh_Hans"}  # a language of the console → the directory of its catalogues


class Words:
    """English as it stands in the code → what a page shows."""

    def __init__(self, language: str) -> None:
        self._catalogues = [
            gettext.translation("django", place, [CATALOGUES[language]], fallback=True)
            for place in _places()
            if CATALOGUES[language]
        ]

    def __call__(self, english: str) -> str:
        """The first catalogue that knows it wins, as in the console; English without one. Labels of fields begin with a
        capital on the page and with a small letter in the code."""
        spelled = (english, english[:1].lower() + english[1:])
        found = ((words, catalogue.gettext(words)) for words in spelled for catalogue in self._catalogues)
        return next((told for words, told in found if told != words), english)


def _places() -> list[Path]:
    """Our catalogues, then those of the libraries whose pages we show."""
    specs = (find_spec(name) for name in LIBRARIES)
    roots = [Path(place) for spec in specs if spec for place in spec.submodule_search_locations or ()]
    return [ROOT / "locale", ROOT / "locale" / "frame", *(root / "locale" for root in roots)]
