"""`aihub up`: the console, kept running until a signal asks to stop."""

from __future__ import annotations

import argparse
import http.client
import ipaddress
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from aihub_backup.cli import output, place, stack
from aihub_backup.cli.exits import CommandFailed, Exit
from aihub_backup.cli.parser import command
from aihub_backup.cli.supervisor import Supervisor
from aihub_backup.core import processes
from aihub_backup.home import ADDRESS

READY_WITHIN = 120.0  # seconds for the first answer of the web server before we say that something is wrong


def main(words: Sequence[str]) -> int:
    """Serve until SIGTERM or SIGINT; exit code 0 then."""
    options = _parser().parse_args(words)
    home = place.named(options.home)  # whatever is refused before the settings are read leaves no home behind
    _refuse_open_http(options, os.environ.get("AIHUB_PUBLIC_URL", ""))
    place.must_be_free(home)
    with _listen(options.host, options.port) as listener, place.gone_when_refused(home):
        settings = place.settings(options.home)
        with place.only_one(settings.AIHUB_HOME):
            _run(_site(settings, options, listener), options)
    return Exit.OK


def _site(settings: Any, options: argparse.Namespace, listener: socket.socket) -> stack.Site:
    return stack.Site(
        home=settings.AIHUB_HOME,
        node=settings.AIHUB_NODE,
        descriptor=listener.fileno(),
        address=_address(options.host, listener),
        drain=options.drain,
        logs_to_files=options.logs == "files",
    )


def _run(site: stack.Site, options: argparse.Namespace) -> None:
    (site.home / ADDRESS).write_text(f"{site.address}\n", encoding="ascii")
    prepared = prepare(site, options.account)
    account = prepared["account"]
    if account and not options.json:
        tell_account(account)
    tell_provisions(prepared)
    serve(site, lambda: announce(site, account, options.json))


def prepare(site: stack.Site, with_account: bool) -> dict[str, Any]:
    """Migrate the database, make the first account and what the variables of the first start ask for, in a process of
    its own. Returns its answer (see `cli.prepare`). CommandFailed, and nothing is made, when a variable is wrong."""
    words = [] if with_account else ["--no-account"]
    command = [sys.executable, "-m", "aihub_backup.cli.prepare", *words]
    done = processes.spawn(command, stdin=subprocess.DEVNULL, env=site.environment()).process
    answer, complaints = done.communicate()
    if done.returncode != 0:
        reason = (complaints.decode(errors="replace").strip().splitlines() or ["no reason was given"])[-1]
        raise CommandFailed(f"the database cannot be prepared: {reason}", Exit.DEPENDENCY)
    prepared: dict[str, Any] = json.loads(answer)
    if prepared.get("wrong"):
        raise CommandFailed(" ".join(prepared["wrong"]), Exit.USAGE)
    return prepared


def serve(site: stack.Site, announce: Callable[[], None]) -> None:
    """Run the programs of the console until a signal asks to stop, then drain them."""
    watch = Supervisor(stack.programs(site), report=output.say)
    waiting, late = True, time.monotonic() + READY_WITHIN
    while watch.step(0.2 if waiting else 5.0):
        if waiting and answers(site.address, site.descriptor):
            waiting = False
            announce()
        elif waiting and time.monotonic() > late:
            late = float("inf")
            output.complain(f"the web server does not answer yet; its log: {site.home / 'log' / 'web.log'}")
    output.say("stopping: running work gets a moment to end; a second signal stops at once.")
    watch.stop()


def announce(site: stack.Site, account: dict[str, str] | None, as_json: bool) -> None:
    """Tell where the console is."""
    if as_json:
        output.result_json({"address": site.address, "home": str(site.home), "pid": os.getpid(), "account": account})
        return
    output.result(f"AI Hub Backup is running at {site.address}/  (data and logs: {site.home})")
    output.result("Stop with Ctrl-C.")


def tell_account(account: dict[str, str]) -> None:
    """The first account's password, this one time, as soon as there is one: nobody could ask for it later."""
    output.result(f"First account: {account['name']}   one-time password: {account['password']}")
    output.result("It is shown once and kept nowhere; whoever signs in with it chooses another one first.")


def tell_provisions(prepared: Mapping[str, Any]) -> None:
    """What the variables of the first start have led to."""
    for sentence in prepared["made"]:
        output.say(f"made as the environment says: {sentence}")
    for sentence in prepared["warnings"]:
        output.complain(f"WARNING: {sentence}")
    for sentence in prepared["refused"]:
        output.complain(f"not made, tried again by the next start: {sentence}")


def answers(address: str, descriptor: int) -> bool:
    """Does the web server answer? Asked at the socket itself: the public address may belong to a proxy."""
    with socket.socket(fileno=os.dup(descriptor)) as listener:
        host, port = listener.getsockname()[:2]
    target = host if not _is_everywhere(host) else "::1" if ":" in host else "127.0.0.1"
    client = http.client.HTTPConnection(target, port, timeout=1)
    try:
        client.request("GET", "/healthz", headers={"Host": urlsplit(address).netloc})
        return client.getresponse().status < 500
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()


def _parser() -> argparse.ArgumentParser:
    parser = command("up")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 takes a free one (default: 8000)")
    parser.add_argument("--insecure", action="store_true", help="allow plain HTTP to other machines")
    parser.add_argument(
        "--drain", type=float, default=60.0, metavar="SECONDS", help="what running work gets at the end"
    )
    parser.add_argument(
        "--logs", choices=("files", "stderr"), default="files", help="where the programs write their logs"
    )
    parser.add_argument("--no-account", dest="account", action="store_false", help="make no first account")
    return parser


def _refuse_open_http(options: argparse.Namespace, public_url: str) -> None:
    if options.insecure or public_url.startswith("https://") or _is_loopback(options.host):
        return
    raise CommandFailed(
        f"listening on {options.host} would send passwords over the network in plain HTTP; put a TLS proxy in front "
        "and set AIHUB_PUBLIC_URL=https://…, or accept it with --insecure.",
        Exit.USAGE,
    )


def _is_everywhere(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    """The listening socket. We hold it, so callers wait rather than being refused while the web server restarts."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        raise CommandFailed(f"cannot listen on {host}:{port}: {error}.", Exit.CONFLICT) from None


def _address(host: str, listener: socket.socket) -> str:
    given = os.environ.get("AIHUB_PUBLIC_URL", "").rstrip("/")
    name = socket.gethostname() if _is_everywhere(host) else host
    shown = f"[{name}]" if ":" in name else name
    return given or f"http://{shown}:{listener.getsockname()[1]}"
