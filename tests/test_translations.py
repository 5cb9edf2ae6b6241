"""Every word that people see has its Chinese, and what is compiled is what was written."""

from __future__ import annotations

import ast
import gettext
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client

from backups.kinds import STORAGES, STRATEGIES

ROOT = Path(__file__).resolve().parents[1]
CATALOGUES = [ROOT / "locale", ROOT / "locale" / "frame"]
CODE = ("aihub_backup", "backups", "recovery", "disaster")
CALLS = frozenset({"_", "gettext", "gettext_lazy", "gettext_noop", "ngettext"})
_STRING = r'((?:"(?:[^"\\]|\\.)*"\n?)+)'
_TRANSLATE = re.compile(r'{% translate "([^"]+)"|{% translate \'([^\']+)\'')
_BLOCK = re.compile(r"{% blocktranslate[^%]*%}(.*?){% endblocktranslate", re.DOTALL)


def written(place: Path) -> dict[str, str]:
    """msgid → msgstr of a catalogue's text."""
    text = (place / "zh_Hans/LC_MESSAGES/django.po").read_text()
    entries = re.findall(rf"^msgid {_STRING}(?:msgid_plural {_STRING})?msgstr(?:\[0\])? {_STRING}", text, re.MULTILINE)
    return {_joined(entry[0]): _joined(entry[2]) for entry in entries if _joined(entry[0])}


def _joined(lines: str) -> str:
    return "".join(ast.literal_eval(line) for line in re.findall(r'"(?:[^"\\]|\\.)*"', lines))


def spoken() -> Iterator[str]:
    """Every string that is marked in code and templates."""
    for name in CODE:
        for file in (ROOT / name).rglob("*.py"):
            if "migrations" not in file.parts:
                yield from _in_code(ast.parse(file.read_text()))
    for file in (ROOT / "templates").rglob("*.html"):
        text = file.read_text()
        yield from (one or other for one, other in _TRANSLATE.findall(text))
        yield from (re.sub(r"{{ (\w+) }}", r"%(\1)s", block) for block in _BLOCK.findall(text))


def told_by_kinds() -> Iterator[str]:
    """What plug-ins say about themselves: they import no Django, so nothing is marked there."""
    for table in (STORAGES, STRATEGIES):
        for kind in table.kinds():
            yield from (table.label(kind), table.about(kind))
            for one in table.schema(kind)["properties"].values():
                yield from (one["title"], one.get("description", ""))


def _in_code(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in CALLS and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def test_every_word_has_its_chinese() -> None:
    known = written(CATALOGUES[0])

    missing = sorted({words for words in (*spoken(), *told_by_kinds()) if words and not known.get(words)})

    assert not missing, "Add these to locale/zh_Hans/LC_MESSAGES/django.po and compile it (msgfmt)."


@pytest.mark.parametrize("place", CATALOGUES, ids=["ours", "frame"])
def test_the_compiled_catalogue_is_the_written_one(place: Path) -> None:
    with (place / "zh_Hans/LC_MESSAGES/django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)

    stale = [
        words
        for words, chinese in written(place).items()
        if chinese not in (compiled.gettext(words), compiled.ngettext(words, words, 1))
    ]

    assert not stale, "Compile it: msgfmt -o django.mo django.po in the catalogue's directory."


@pytest.mark.parametrize("place", CATALOGUES, ids=["ours", "frame"])
def test_nothing_that_is_filled_in_gets_lost(place: Path) -> None:
    for words, chinese in written(place).items():
        asked = set(re.findall(r"%\(\w+\)|{}", words)) | ({"%(count)"} if "%(count)" in chinese else set())
        assert asked == set(re.findall(r"%\(\w+\)|{}", chinese)), words


def test_pages_speak_chinese(client: Client, admin_user: object) -> None:
    client.force_login(admin_user)  # type: ignore[arg-type]  # the fixture's type is Django's own
    client.cookies["django_language"] = "zh-hans"

    overview, sources = client.get("/admin/").text, client.get("/admin/backups/source/").text

    assert "总览" in overview and "还没有任何保护" in overview
    assert "这里还没有内容" in sources and "输入以搜索" in sources
