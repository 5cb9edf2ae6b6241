from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from aihub_backup.core.failures import Failure, NotFound
from aihub_backup.core.options import OptionsError, option
from aihub_backup.core.plugins import PluginTable


class Radio:
    @dataclass(frozen=True)
    class Options:
        frequency: int = option(label="Frequency")


@pytest.fixture
def table() -> PluginTable[Radio]:
    rows = {"radio": ("Radio", "tests.core.test_plugins.Radio"), "gone": ("Gone", "tests.core.nothing.Here")}
    return PluginTable("channel", rows)


def test_it_lists_kinds_without_importing_them(table: PluginTable[Radio]) -> None:
    assert table.choices() == [("radio", "Radio"), ("gone", "Gone")]
    assert "tests.core.nothing" not in sys.modules


def test_it_loads_a_kind(table: PluginTable[Radio]) -> None:
    assert table.load("radio") is Radio
    assert table.options("radio", {"frequency": "98"}) == Radio.Options(98)
    assert table.schema("radio")["required"] == ["frequency"]


def test_it_passes_wrong_options_on(table: PluginTable[Radio]) -> None:
    with pytest.raises(OptionsError, match="frequency: This option is required"):
        table.options("radio", {})


def test_an_unknown_kind_is_named_with_the_known_ones(table: PluginTable[Radio]) -> None:
    with pytest.raises(NotFound, match=r"no channel kind “pigeon”\. Known kinds: radio, gone"):
        table.load("pigeon")


def test_a_broken_kind_says_what_is_missing(table: PluginTable[Radio]) -> None:
    with pytest.raises(Failure, match=r"cannot be loaded: No module named 'tests\.core\.nothing'"):
        table.load("gone")


def test_third_parties_add_kinds_by_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = tmp_path / "pigeons-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeons\nVersion: 1.0\n")
    rows = "[aihub_backup.channels]\ncarrier_pigeon = pigeons:Pigeon\nradio = pigeons:Pigeon\n"
    (metadata / "entry_points.txt").write_text(rows)
    (tmp_path / "pigeons.py").write_text("class Pigeon: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    table: PluginTable[object] = PluginTable("channel", {"radio": ("Radio", "tests.core.test_plugins.Radio")})

    assert table.choices() == [("radio", "Radio"), ("carrier_pigeon", "Carrier pigeon")]
    assert table.load("carrier_pigeon").__name__ == "Pigeon"
    assert table.load("radio") is Radio  # our own kind is not shadowed


def test_the_plural_of_the_entry_point_group() -> None:
    assert PluginTable[object]("strategy", {}).group == "aihub_backup.strategies"
    assert EntryPoint("a", "b", PluginTable[object]("storage", {}).group).group == "aihub_backup.storages"


def test_tables_and_options_need_no_django() -> None:
    rooms = "options, plugins, redaction, processes"
    code = f"import sys; from aihub_backup.core import {rooms}; print('django' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout == "False\n"
