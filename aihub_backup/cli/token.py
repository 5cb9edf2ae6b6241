"""`aihub token`: a way into the REST API for a program."""

from __future__ import annotations

from collections.abc import Sequence

from aihub_backup.cli import console, output
from aihub_backup.cli.exits import Exit
from aihub_backup.cli.parser import command


def main(words: Sequence[str]) -> int:
    """Print a new token, once."""
    parser = command("token")
    parser.add_argument("--account", default="admin", metavar="NAME", help="whose rights it has (default: admin)")
    parser.add_argument("--name", default="command line", help="what the list of tokens calls it")
    parser.add_argument("--days", type=float, default=90, help="how long it is good for (default: 90)")
    parser.add_argument(
        "--scope", action="append", default=[], metavar="PERMISSION",
        help="allow only this permission, such as backups.view_backup; may be repeated",
    )  # fmt: skip
    options = parser.parse_args(words)
    with console.opened(options.home):
        from aihub_backup.cli import accounts

        token = accounts.make_token(options.account, options.name, options.days, console.actor(), options.scope)
    if options.json:
        output.result_json({"token": token, "account": options.account, "days": options.days})
    else:
        output.result(token)
        output.say("It is shown once. Send it as “Authorization: Bearer …”.")
    return Exit.OK
