from django.db import migrations
from django.db.models import F


def raise_open(apps, schema_editor):
    Task = apps.get_model("shop", "Task")
    Task.objects.filter(state="open").update(priority=F("priority") + 1)
    for task in Task.objects.filter(state="doing").iterator(chunk_size=20):
        task.points = 5
        task.save(update_fields=["points"])
    Milestone = apps.get_model("shop", "Milestone")
    Project = apps.get_model("shop", "Project")
    Milestone.objects.bulk_create(
        [
            Milestone(tenant_id=project.tenant_id, project=project, name="first")
            for project in Project.objects.order_by("pk")
        ]
    )


class Migration(migrations.Migration):
    dependencies = [("shop", "0002_priority")]

    operations = [
        migrations.RunPython(raise_open, migrations.RunPython.noop),
        migrations.RunSQL(
            "UPDATE shop_task SET body = 'none' WHERE body = ''",
            migrations.RunSQL.noop,
        ),
    ]
