"""`aihub up` for real: the whole console with its programs, started, disturbed and stopped."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from aihub_backup.cli.exits import CommandFailed, Exit
from aihub_backup.cli.up import _address, _listen, _refuse_open_http
from aihub_backup.home import ADDRESS, served_at
from tests.cli.console import Console, command
from tests.cli.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("console")]


def test_it_serves_the_console_and_tells_the_first_password_once(console: Console) -> None:
    account = console.facts["account"]

    assert console.answers()
    assert account["name"] == "admin"
    files = [path for path in console.home.rglob("*") if path.is_file()]
    assert not [path for path in files if account["password"].encode() in path.read_bytes()]
    assert account["password"] not in console.said()
    assert served_at(console.home) == console.facts["address"]


@pytest.mark.parametrize(
    ("variables", "known"),
    [({}, "http://127.0.0.1:9001"), ({"AIHUB_PUBLIC_URL": "https://hub.example.org"}, "https://hub.example.org")],
)
def test_commands_beside_it_know_the_address_that_it_serves(
    tmp_path: Path, variables: dict[str, str], known: str
) -> None:
    (tmp_path / ADDRESS).write_text("http://127.0.0.1:9001\n")
    given = {name: value for name, value in os.environ.items() if name != "AIHUB_PUBLIC_URL"}
    given |= {"AIHUB_ENV_FILE": os.devnull, "AIHUB_HOME": str(tmp_path), **variables}

    told = "from aihub_backup import settings; print(settings.AIHUB_PUBLIC_URL)"
    done = subprocess.run([sys.executable, "-c", told], env=given, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == known


def test_it_refuses_a_second_console_in_the_same_home(console: Console) -> None:
    done = subprocess.run(
        command("up", "--port", "0", "--home", str(console.home)), capture_output=True, text=True, timeout=60
    )

    assert done.returncode == Exit.CONFLICT
    assert f"is already served by another `aihub up` (process {console.process.pid})" in done.stderr


@pytest.mark.parametrize(("word", "name"), [("gunicorn", "web"), ("beat", "beat"), ("jobs@", "worker")])
def test_it_starts_a_killed_program_again(console: Console, word: str, name: str) -> None:
    eventually(lambda: console.program(word), 60)
    killed = console.program(word)
    before = set(console.descendants())

    os.kill(killed, signal.SIGKILL)

    eventually(lambda: console.program(word) not in (0, killed), 30)
    eventually(console.answers, 60)
    assert f"{name} was killed by SIGKILL" in console.said()
    assert killed in before


def test_the_doctor_finds_it_healthy(console: Console) -> None:
    words = command("doctor", "--json", "--home", str(console.home))
    eventually(lambda: _worker_seen(words), 60)

    findings = json.loads(subprocess.run(words, capture_output=True, text=True, check=False).stdout)["findings"]

    assert {finding["state"] for finding in findings if finding["id"] != "space"} == {"ok"}, findings


def _worker_seen(words: list[str]) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == Exit.OK


def test_it_makes_a_token_that_the_api_takes(console: Console) -> None:
    made = subprocess.run(
        command("token", "--json", "--days", "1", "--home", str(console.home)),
        capture_output=True,
        text=True,
        check=True,
    )
    token = json.loads(made.stdout)["token"]

    request = urllib.request.Request(
        f"{console.facts['address']}/api/v1/schema", headers={"Authorization": f"Bearer {token}"}
    )

    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.status == 200


def test_it_leaves_nothing_behind_when_it_is_stopped(tmp_path: Path) -> None:
    console = Console(tmp_path / "home")
    eventually(lambda: len(console.descendants()) >= 5, 60)

    code = console.stop()

    assert code == 0
    assert console.descendants() == {}


def test_it_leaves_nothing_behind_when_it_is_killed(tmp_path: Path) -> None:
    console = Console(tmp_path / "home")
    eventually(lambda: "celery" in "".join(console.descendants().values()), 60)

    console.stop(signal.SIGKILL)

    eventually(lambda: console.descendants() == {}, 30)


def test_it_serves_the_address_that_the_file_of_variables_names(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("AIHUB_PUBLIC_URL=https://hub.example.org\nAIHUB_WORKER_SLOTS=3\n")

    port = _free_port()

    console = Console(tmp_path / "home", "--host", "0.0.0.0", "--port", str(port), variables=tmp_path / "env")
    worker = _read_command(console, "jobs@")
    answer = _asked(port, "hub.example.org")
    console.stop()

    assert console.facts["address"] == "https://hub.example.org"
    assert "--concurrency 3" in worker
    assert answer.status == 200
    assert "Secure" in answer.headers["Set-Cookie"] and answer.headers["Strict-Transport-Security"]


def _free_port() -> int:
    with _listen("0.0.0.0", 0) as listener:
        return int(listener.getsockname()[1])


def _read_command(console: Console, word: str) -> str:
    eventually(lambda: console.program(word), 60)
    return Path(f"/proc/{console.program(word)}/cmdline").read_text().replace("\0", " ")


def _asked(port: int, host: str) -> http.client.HTTPResponse:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    client.request("GET", "/accounts/login/", headers={"Host": host, "X-Forwarded-Proto": "https"})
    return client.getresponse()


@pytest.mark.parametrize(
    ("words", "variables", "sentence"),
    [
        (("--host", "0.0.0.0", "--port", "0"), {}, "plain HTTP"),
        (("--host", "192.0.2.1", "--port", "0", "--insecure"), {}, "cannot listen on 192.0.2.1:0"),
        (("--port", "0"), {"AIHUB_PUBLIC_URL": "hub.example.org"}, "AIHUB_PUBLIC_URL must be http(s)://"),
        (("--port", "0"), {"AIHUB_MODE": "production"}, "AIHUB_SECRET_KEY (or AIHUB_SECRET_KEY_FILE) is not set"),
        (("--port", "0"), {"AIHUB_JOB_LEASE_SECONDS": "soon"}, "AIHUB_JOB_LEASE_SECONDS must be a number of seconds"),
    ],
)
def test_a_refused_start_leaves_no_home_behind(
    tmp_path: Path, words: tuple[str, ...], variables: dict[str, str], sentence: str
) -> None:
    given = {**os.environ, "AIHUB_ENV_FILE": os.devnull, **variables}

    done = subprocess.run(
        command("up", *words, "--home", str(tmp_path / "home")),
        capture_output=True, text=True, timeout=60, env=given, check=False,
    )  # fmt: skip

    assert done.returncode in (Exit.USAGE, Exit.CONFLICT)
    assert sentence in done.stderr
    assert not (tmp_path / "home").exists()


def test_it_asks_before_serving_plain_http_to_others() -> None:
    class Options:
        host = "0.0.0.0"
        insecure = False

    with pytest.raises(CommandFailed, match="plain HTTP") as refusal:
        _refuse_open_http(Options(), "")  # type: ignore[arg-type]  # the two members that matter

    assert refusal.value.exit_code == Exit.USAGE
    _refuse_open_http(Options(), "https://console.example.org")  # type: ignore[arg-type]  # as above


def test_it_says_when_the_port_is_taken() -> None:
    with _listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]

        with pytest.raises(CommandFailed, match=f"cannot listen on 127.0.0.1:{port}: .*Address already in use"):
            _listen("127.0.0.1", port)


def test_it_names_the_address_people_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIHUB_PUBLIC_URL", raising=False)
    with _listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]

        assert _address("::1", listener) == f"http://[::1]:{port}"
        monkeypatch.setenv("AIHUB_PUBLIC_URL", "https://console.example.org/")
        assert _address("127.0.0.1", listener) == "https://console.example.org"


def test_it_makes_what_the_variables_of_the_first_start_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKUP_STORAGE_TYPE", "local")
    monkeypatch.setenv("BACKUP_SCHEDULE_CRON", "0 2 * * *")
    monkeypatch.setenv("AIHUB_METRICS_TOKEN", "a-token-for-the-metrics")

    console = Console(tmp_path / "home")
    counts = [_requests_counted(console) for _ in range(6)]
    listed = subprocess.run(
        command("schedule", "list", "--json", "--home", str(tmp_path / "home")), capture_output=True, check=True
    )
    console.stop()

    made = {schedule["name"]: schedule["cron_expression"] for schedule in json.loads(listed.stdout)}
    assert made == {"everything": "0 2 * * *", "console": "15 3 * * *"}
    assert f"though nobody has proved the recovery kit of “main”. It lies in {tmp_path}" in console.said()
    assert f"its recovery kit is {tmp_path / 'home/recovery-kit.txt'}" in console.said()
    assert (tmp_path / "home/backups").is_dir()
    assert counts == sorted(counts) and counts[-1] >= counts[0] + 5  # all web processes count together


def _requests_counted(console: Console) -> float:
    request = urllib.request.Request(
        f"{console.facts['address']}/metrics", headers={"Authorization": "Bearer a-token-for-the-metrics"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        lines = response.read().decode().splitlines()
    assert any(line.startswith("aihub_schedule_enabled{") for line in lines)
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("django_http_requests_before_middlewares_t")
    )


def test_variables_that_make_no_sense_keep_it_from_starting(tmp_path: Path) -> None:
    environment = {**os.environ, "AIHUB_ENV_FILE": os.devnull, "BACKUP_STORAGE_TYPE": "tape", "DR_RPO_MINUTES": "soon"}

    done = subprocess.run(
        command("up", "--port", "0", "--home", str(tmp_path / "home")),
        capture_output=True, text=True, timeout=60, env=environment, check=False,
    )  # fmt: skip

    assert done.returncode == Exit.USAGE
    assert "BACKUP_STORAGE_TYPE must be local or s3" in done.stderr and "DR_RPO_MINUTES must be" in done.stderr
    assert not (tmp_path / "home").exists()

    (tmp_path / "home").mkdir()
    again = subprocess.run(
        command("up", "--port", "0", "--home", str(tmp_path / "home")),
        capture_output=True, timeout=60, env=environment, check=False,
    )  # fmt: skip

    assert again.returncode == Exit.USAGE
    assert list((tmp_path / "home").iterdir()) == []  # a volume that was mounted there stays, without our keys


def test_a_database_that_is_made_in_an_open_directory_is_ours_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    environment = {**os.environ, "AIHUB_HOME": str(home), "AIHUB_ENV_FILE": os.devnull}
    environment.pop("DJANGO_SETTINGS_MODULE", None)  # that of the tests has a home of its own

    done = subprocess.run(
        [sys.executable, "-m", "aihub_backup.cli.prepare", "--no-account"],
        cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert (home / "console.sqlite3").stat().st_mode & 0o077 == 0
