from __future__ import annotations

from typing import Any

from django.db import migrations, models


def mark(apps: Any, _schema_editor: Any) -> None:
    """The source that is the console's database today."""
    own = apps.get_model("backups", "OwnProtection").objects.values_list("source", flat=True)
    apps.get_model("backups", "Source").objects.filter(pk__in=list(own)).update(holds_console=True)


class Migration(migrations.Migration):

    dependencies = [
        ("backups", "0007_own_protection"),
    ]

    operations = [
        migrations.AddField(
            model_name="source",
            name="holds_console",
            field=models.BooleanField(
                default=False, editable=False, help_text="Or it was once: its backups hold every secret of the console.",
                verbose_name="this console's own database",
            ),
        ),
        migrations.RunPython(mark, migrations.RunPython.noop),
    ]
