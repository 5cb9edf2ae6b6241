"""The launcher ./aihub, run for real in a small project of its own with no packages to fetch: no network is needed."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE_PYTHON = os.path.realpath(os.path.join(sys.base_prefix, "bin", f"python{sysconfig.get_python_version()}"))
ECHO = "import sys; sys.stdout.write(repr(sys.argv[1:]))\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with the real launcher, a command line that repeats its arguments, and no requirements."""
    home = tmp_path / "check out"
    (home / "requirements").mkdir(parents=True)
    (home / "aihub_backup" / "cli").mkdir(parents=True)
    for package in ("aihub_backup", "aihub_backup/cli"):
        (home / package / "__init__.py").touch()
    (home / "aihub_backup/cli/__main__.py").write_text(ECHO)
    (home / "requirements/runtime.txt").write_text("# nothing\n")
    (home / "requirements/test.txt").write_text("# nothing\n")
    shutil.copy(ROOT / "aihub", home / "aihub")
    return home


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def environment(**extra: str) -> dict[str, str]:
    plain = {"PATH": "/usr/bin:/bin", "HOME": os.environ.get("HOME", "/"), "AIHUB_NO_UV": "1"}
    return {**plain, "AIHUB_PYTHON": BASE_PYTHON, **extra}


def launch(
    command: Path | str, *arguments: str, cwd: Path | None = None, **extra: str
) -> subprocess.CompletedProcess[str]:
    env = environment(**extra)
    return subprocess.run([str(command), *arguments], env=env, cwd=cwd, capture_output=True, text=True, timeout=120)


def test_it_makes_its_environment_once_and_keeps_stdout_for_the_command(project: Path) -> None:
    first = launch(project / "aihub", "doctor", "--json")
    second = launch(project / "aihub", "doctor", "--json")

    assert (first.returncode, first.stdout) == (0, "['doctor', '--json']")
    assert "preparing the private Python environment" in first.stderr
    assert (second.returncode, second.stdout, second.stderr) == (0, "['doctor', '--json']", "")


def test_it_works_from_another_directory_and_through_a_chain_of_symlinks(project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "json.py").write_text("raise SystemExit('a module of the caller was imported')")
    (tmp_path / "one").symlink_to("check out/aihub")
    (elsewhere / "two").symlink_to("../one")

    result = launch("./two", "up", "a b", cwd=elsewhere)

    assert (result.returncode, result.stdout) == (0, "['up', 'a b']")


def test_it_lets_isolated_children_find_the_project(project: Path, tmp_path: Path) -> None:
    launch(project / "aihub", AIHUB_VENV=str(tmp_path / "own"))

    found = [str(tmp_path / "own/bin/python"), "-I", "-c", "import aihub_backup; print(aihub_backup.__file__)"]

    assert str(project) in subprocess.run(found, capture_output=True, text=True, cwd="/", check=True).stdout


def test_it_installs_again_when_the_requirements_change(project: Path) -> None:
    launch(project / "aihub")
    (project / "requirements/runtime.txt").write_text("# something else\n")

    changed, settled = launch(project / "aihub"), launch(project / "aihub")

    assert "preparing" in changed.stderr
    assert settled.stderr == ""


def test_it_starts_again_from_nothing_after_an_interrupted_installation(project: Path) -> None:
    launch(project / "aihub")
    (project / ".venv/aihub-installing").touch()
    (project / ".venv/half-installed").touch()

    result = launch(project / "aihub", "up")

    assert result.returncode == 0
    assert "interrupted; starting again" in result.stderr
    assert not (project / ".venv/half-installed").exists()


def test_it_continues_after_a_kill_at_any_moment_of_the_first_use(project: Path) -> None:
    for delay in (0.02, 0.1, 0.3, 1.0):
        running = subprocess.Popen(
            [str(project / "aihub")], env=environment(), start_new_session=True, stderr=-3, stdout=-3
        )
        time.sleep(delay)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()

    result = launch(project / "aihub", "up")

    assert (result.returncode, result.stdout) == (0, "['up']")


def test_it_lets_one_of_many_first_uses_install_while_the_others_wait(project: Path) -> None:
    command = [str(project / "aihub"), "up"]
    many = [subprocess.Popen(command, env=environment(), stdout=-1, stderr=-1, text=True) for _ in range(4)]

    outputs = [process.communicate(timeout=120) for process in many]

    assert [process.returncode for process in many] == [0, 0, 0, 0]
    assert [out for out, _ in outputs] == ["['up']"] * 4
    assert sum("preparing" in err for _, err in outputs) == 1


def test_it_passes_over_shims_that_fail_and_old_pythons(project: Path, tmp_path: Path) -> None:
    shims = tmp_path / "shims"
    script(shims / "python3", "#!/bin/sh\necho 'pyenv: python3: command not found' >&2\nexit 127\n")
    script(shims / "python3.13", "#!/bin/sh\nexit 1\n")
    script(shims / "python3.12", f'#!/bin/sh\nexec "{BASE_PYTHON}" "$@"\n')

    result = launch(project / "aihub", "up", PATH=f"{shims}:/usr/bin:/bin", AIHUB_PYTHON="")

    assert (result.returncode, result.stdout) == (0, "['up']")
    assert "pyenv" not in result.stderr


def test_it_says_in_one_sentence_what_debian_lacks(project: Path, tmp_path: Path) -> None:
    bare = script(
        tmp_path / "bare/python3",
        f'#!/bin/sh\ncase "$*" in *venv*|*ensurepip*) exit 1;; esac\nexec "{BASE_PYTHON}" "$@"\n',
    )

    result = launch(project / "aihub", "up", AIHUB_PYTHON=str(bare))

    assert result.returncode == 1
    assert "apt-get install python3-venv" in result.stderr.splitlines()[-1]


def test_it_says_what_to_install_where_no_python_fits(project: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    for name in ("readlink", "dirname", "cat", "mkdir", "rm", "ls"):
        script(tools / name, f'#!/bin/sh\nexec /bin/{name} "$@"\n')

    result = launch(project / "aihub", "up", PATH=str(tools), AIHUB_PYTHON="")

    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "Python 3.11 or newer was not found" in result.stderr


def test_it_refuses_a_directory_with_other_things_in_it(project: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "letters.txt").write_text("dear")

    result = launch(project / "aihub", "up", AIHUB_VENV=str(precious))

    assert result.returncode == 1
    assert "holds other things" in result.stderr
    assert [path.name for path in precious.iterdir()] == ["letters.txt"]


def test_it_says_when_it_may_not_write_there(project: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    result = launch(project / "aihub", "up", AIHUB_VENV=str(tmp_path / "file" / "venv"))

    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "cannot be written; name a directory of yours in AIHUB_VENV." in result.stderr


def test_it_rebuilds_an_environment_whose_python_has_gone(project: Path) -> None:
    launch(project / "aihub")
    for name in ("python", "python3"):
        (project / ".venv/bin" / name).unlink()
        (project / ".venv/bin" / name).symlink_to("/nowhere/python3")

    result = launch(project / "aihub", "up")

    assert (result.returncode, result.stdout) == (0, "['up']")


def test_the_test_requirements_hold_every_runtime_pin() -> None:
    pins = [
        {line.split()[0] for line in (ROOT / "requirements" / name).read_text().splitlines() if line[:1].isalnum()}
        for name in ("runtime.txt", "test.txt")
    ]

    assert pins[0] <= pins[1]
