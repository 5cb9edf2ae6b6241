"""Every command can be found and loaded by itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aihub_backup.cli.parser import COMMANDS

MODULES = sorted({place.partition(":")[0] for _summary, place in COMMANDS.values()})


@pytest.mark.parametrize("module", MODULES)
def test_its_module_loads_before_the_settings_are_known(module: str) -> None:
    words = [sys.executable, "-c", f"import aihub_backup.cli.{module}"]

    done = subprocess.run(words, capture_output=True, text=True, check=False, env={"DJANGO_SETTINGS_MODULE": ""})

    assert (done.returncode, done.stderr) == (0, "")
