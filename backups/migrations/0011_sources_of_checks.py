"""Every check learns the source of its part."""

from typing import Any

from django.apps.registry import Apps
from django.db import migrations
from django.db.models import OuterRef, Subquery


def fill(apps: Apps, _schema_editor: Any) -> None:
    """In one statement."""
    parts = apps.get_model("backups", "BackupPart").objects.filter(pk=OuterRef("part")).order_by()
    checks = apps.get_model("backups", "Verification").objects.filter(source=None)
    checks.update(source=Subquery(parts.values("source")[:1]))


class Migration(migrations.Migration):
    dependencies = [("backups", "0010_long_lists")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
