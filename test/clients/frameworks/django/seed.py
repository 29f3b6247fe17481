"""Rows of the application's first version, made by the framework."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
django.setup()

from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.core.management import call_command  # noqa: E402

from shop.models import (  # noqa: E402
    Comment,
    Flag,
    Member,
    Membership,
    Plan,
    Project,
    Tag,
    Task,
    TaskTag,
    Tenant,
)

call_command("createcachetable", verbosity=0)
User.objects.create_superuser("root", "root@example.org", "secret")
staff = Group.objects.create(name="staff")
staff.permissions.set(Permission.objects.filter(content_type__app_label="shop"))
plans = [Plan.objects.create(name=name, price=price) for name, price in [("free", 0), ("team", 10), ("all", 99)]]
tags = Tag.objects.bulk_create([Tag(name=f"tag {n}") for n in range(10)])
for n in range(5):
    Flag.objects.create(name=f"flag {n}", enabled=n % 2 == 0).plans.set(plans[: n % 3 + 1])
for n in range(20):
    tenant = Tenant.objects.create(slug=f"tenant-{n}", plan=plans[n % 3], settings={"n": n})
    members = Member.objects.bulk_create(
        [Member(tenant=tenant, email=f"m{m}@tenant-{n}.example", name=f"Member {m}") for m in range(4)]
    )
    for p in range(2):
        project = Project.objects.create(tenant=tenant, owner=members[p], name=f"project {p}", position=p)
        for member in members[: p + 2]:
            Membership.objects.create(tenant=tenant, project=project, member=member)
        tasks = Task.objects.bulk_create(
            [
                Task(
                    tenant=tenant,
                    project=project,
                    assignee=members[t % 4] if t % 3 else None,
                    state=["open", "doing", "done"][t % 3],
                    title=f"task {t} of {n}/{p}",
                    estimate=t + 0.25,
                    due_on=f"2026-0{t % 9 + 1}-11",
                    labels=[f"l{t % 4}", "x"],
                )
                for t in range(8)
            ]
        )
        TaskTag.objects.bulk_create(
            [TaskTag(tenant=tenant, task=task, tag=tags[t % 10]) for t, task in enumerate(tasks)]
        )
        Comment.objects.bulk_create(
            [Comment(tenant=tenant, task=task, author=members[3], body=f"on {task.title}") for task in tasks[:3]]
        )
