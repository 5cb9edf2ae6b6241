from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("backups", "0016_damaged_packs")]

    operations = [
        migrations.AddIndex("backup", models.Index(fields=["requested_by_name"], name="backup_by_requester")),
    ]
