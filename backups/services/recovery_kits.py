"""The page that must be kept outside of this system: with it everything comes back without the console."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from django.utils.translation import gettext_lazy

from backups.models import Repository

_PAGE = gettext_lazy("""\
AI Hub Backup: recovery kit of the repository “%(name)s”

Repository id   %(id)s
Place           %(place)s
Made            %(made)s UTC

Recovery code   %(code)s

Whoever holds this code and the place's objects can read every backup in it. Keep it on paper, away from
both. With it everything comes back, also when the console and its database are lost: copy or mount the
place and, from a checkout of AI Hub Backup, list what is there, then restore once for each source:

    AIHUB_RECOVERY_CODE='…' ./aihub engine list <directory>
    AIHUB_RECOVERY_CODE='…' ./aihub engine restore <directory> --snapshot <id> --target <new directory>

Whole systems hold devices and programs that run with other rights: as root, add --privileges to `engine
restore`.

A bucket is written s3://BUCKET/PREFIX instead of a directory; AIHUB_S3_ENDPOINT, AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY in the environment say the rest.

When there is no checkout any more, the file backups/rescue.py alone does the same; keep a copy of it with
this page. It needs Python and four packages: pip install cryptography zstandard msgpack blake3

    AIHUB_RECOVERY_CODE='…' python3 rescue.py list <directory>
    AIHUB_RECOVERY_CODE='…' python3 rescue.py restore <directory> <id> <new directory>

Run as root, rescue.py brings owners, devices and special rights back by itself.
""")


@dataclass(frozen=True)
class RecoveryKit:
    """What must be kept outside of this system. `code` is told once and stored nowhere."""

    repository: Repository
    repository_id: str  # 32 hexadecimal digits, written in the repository itself
    place: str  # where the repository is, in words
    code: str = field(repr=False)
    made: datetime | None = None  # None: with the repository

    @property
    def text(self) -> str:
        """The kit as a page to print: what it is, the code, and how to bring data back without the console."""
        return str(_PAGE) % {
            "name": self.repository.name, "id": self.repository_id, "place": self.place, "code": self.code,
            "made": f"{self.made or self.repository.created_at:%Y-%m-%d %H:%M}",
        }  # fmt: skip
