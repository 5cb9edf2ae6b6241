"""`aihub account`: who may sign in, with which roles; and the way back in for whoever is locked out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aihub_backup.cli import console, output
from aihub_backup.cli.exits import Exit
from aihub_backup.cli.parser import command, pair, verb

if TYPE_CHECKING:
    from aihub_backup.core.models import User


def main(words: Sequence[str]) -> int:
    """Do the verb; exit code as in `exits`."""
    options = _parser().parse_args(words)
    with console.opened(options.home):
        return int(VERBS[options.verb](options))


def _parser() -> argparse.ArgumentParser:
    parser = command("account")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verb(verbs, "list", "everybody, with their roles")
    for name, what in (
        ("add", "make an account; prints its one-time password"), ("give", "give a role"),
        ("take", "take a role away"), ("unlock", "end a lock after many failed attempts to sign in"),
        ("forget-second-factor", "let somebody in who has lost theirs"),
    ):  # fmt: skip
        verb(verbs, name, what).add_argument("name")
    for name in ("give", "take"):
        verbs.choices[name].add_argument("role", help="Viewer, Auditor, Operator, …")
    give = verbs.choices["give"]
    give.add_argument("--environment", action="append", default=[], metavar="NAME", help="only there; may be repeated")
    give.add_argument("--tag", action="append", default=[], metavar="NAME=VALUE", help="only sources that carry it")
    return parser


# --- deeds ------------------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    from aihub_backup.core.models import User

    rows = User.objects.prefetch_related("groups", "grants__role", "grants__environments").order_by("username")
    found = [{"name": row.username, "active": row.is_active, "roles": _roles(row)} for row in rows]
    if options.json:
        output.result_json(found)
    else:
        lines = [(row.username, row.is_active, "; ".join(_roles(row))) for row in rows]
        output.result(output.table(("name", "active", "roles"), lines))
    return Exit.OK


def _add(options: argparse.Namespace) -> int:
    from aihub_backup.cli import accounts

    password = accounts.new_account(options.name, console.actor())
    return _done(options, f"the one-time password of {options.name} is {password}", password=password)


def _give(options: argparse.Namespace) -> int:
    from aihub_backup.core import grants
    from aihub_backup.core.models import Environment
    from backups.services import lookup

    places = [lookup.find(Environment.objects.all(), name) for name in options.environment]
    tags = dict(pair(word) for word in options.tag)
    role = grants.role(options.role)
    grants.give(_user(options), role, by=console.actor(), environments=places, tags=tags)
    return _done(options, f"{options.name} has the role {role}")


def _take(options: argparse.Namespace) -> int:
    from aihub_backup.core import grants

    role = grants.role(options.role)
    grants.take(_user(options), role, by=console.actor())
    return _done(options, f"{options.name} has the role {role} no longer")


def _unlock(options: argparse.Namespace) -> int:
    from axes.utils import reset

    count = reset(username=options.name)
    return _done(options, f"{options.name} may sign in again", forgotten=count)


def _forget(options: argparse.Namespace) -> int:
    from aihub_backup.cli import accounts

    accounts.forget_second_factor(_user(options), console.actor())
    return _done(options, f"{options.name} signs in with the password alone until a new second factor is made")


# --- words in, words out ----------------------------------------------------------------------------------------------


def _user(options: argparse.Namespace) -> User:
    from aihub_backup.core.failures import NotFound
    from aihub_backup.core.models import User

    found = User.objects.filter(username=options.name).first()
    if found is None:
        raise NotFound(f"There is no account “{options.name}”.")
    return found


def _roles(user: User) -> list[str]:
    if user.is_superuser:
        return ["superuser"]
    bounded = [
        f"{grant.role} in {'every environment' if grant.every_environment else _names(grant)}"
        + "".join(f" {name}={value}" for name, value in grant.tags.items())
        for grant in user.grants.all()
    ]
    return [*(f"{group}" for group in user.groups.all()), *bounded]


def _names(grant: Any) -> str:
    return ", ".join(environment.name for environment in grant.environments.all()) or "no environment"


def _done(options: argparse.Namespace, sentence: str, **facts: Any) -> int:
    if options.json:
        output.result_json({"account": options.name, **facts})
    else:
        output.result(sentence)
    return Exit.OK


VERBS = {
    "list": _list, "add": _add, "give": _give, "take": _take, "unlock": _unlock, "forget-second-factor": _forget,
}  # fmt: skip
