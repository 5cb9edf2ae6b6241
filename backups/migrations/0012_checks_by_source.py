import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("backups", "0011_sources_of_checks")]
    operations = [
        migrations.AlterField(
            model_name="verification",
            name="source",
            field=models.ForeignKey(
                db_index=False, editable=False, on_delete=django.db.models.deletion.PROTECT,
                related_name="verifications", to="backups.source", verbose_name="source",
            ),
        ),
        migrations.AddIndex(
            model_name="verification",
            index=models.Index(fields=["source", "-finished_at", "-id", "state"], name="verification_of_source"),
        ),
    ]
