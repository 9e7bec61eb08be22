"""From here on the database itself refuses to change history."""

from django.db import migrations

from deploy import appendonly


def protect(apps, schema_editor):
    appendonly.run(schema_editor.connection, appendonly.create(schema_editor.connection))


def unprotect(apps, schema_editor):
    appendonly.run(schema_editor.connection, appendonly.drop(schema_editor.connection))


class Migration(migrations.Migration):
    dependencies = [("deploy", "0001_initial")]
    operations = [migrations.RunPython(protect, unprotect)]
