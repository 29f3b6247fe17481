from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("shop", "0003_important")]

    operations = [
        AddIndexConcurrently(
            "task", models.Index(fields=["due_on"], name="task_due")
        ),
    ]
