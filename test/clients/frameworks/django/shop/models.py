"""An application with tenants. Its second version (APP_VERSION=2) has a column, a table and an index more."""

import os
import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models

VERSION = int(os.environ.get("APP_VERSION", "2"))


class Plan(models.Model):
    name = models.CharField(max_length=80, unique=True)
    price = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return self.name


class Tag(models.Model):
    name = models.CharField(max_length=80, unique=True)

    def __str__(self):
        return self.name


class Tenant(models.Model):
    slug = models.SlugField(max_length=80, unique=True)
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT)
    settings = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return self.slug


class Member(models.Model):
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=200)
    is_active = models.BooleanField(default=True)
    last_login_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self):
        return self.email


class Project(models.Model):
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)
    owner = models.ForeignKey(Member, null=True, blank=True, on_delete=models.SET_NULL, related_name="owned")
    members = models.ManyToManyField(Member, through="Membership", related_name="projects")
    name = models.CharField(max_length=200)
    position = models.IntegerField(null=True, blank=True)
    archived = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="project_name_of_tenant")]

    def __str__(self):
        return self.name


class Membership(models.Model):
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)
    project = models.ForeignKey(Project, on_delete=models.CASCADE)
    member = models.ForeignKey(Member, on_delete=models.CASCADE)
    role = models.CharField(max_length=20, default="member")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["project", "member"], name="one_membership")]


class Task(models.Model):
    class State(models.TextChoices):
        OPEN = "open"
        DOING = "doing"
        DONE = "done"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="tasks")
    assignee = models.ForeignKey(Member, null=True, blank=True, on_delete=models.SET_NULL)
    tags = models.ManyToManyField(Tag, through="TaskTag")
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True, default="")
    estimate = models.DecimalField(max_digits=8, decimal_places=2, null=True, blank=True)
    due_on = models.DateField(null=True, blank=True)
    labels = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    if VERSION >= 2:
        priority = models.IntegerField(default=3)
        points = models.IntegerField(db_default=1)

    class Meta:
        indexes = [models.Index(fields=["tenant", "state"], name="task_tenant_state")] + (
            [
                models.Index(fields=["tenant", "priority"], name="task_tenant_priority"),
                models.Index(fields=["due_on"], name="task_due"),
            ]
            if VERSION >= 2
            else []
        )

    def __str__(self):
        return self.title


class TaskTag(models.Model):
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)
    task = models.ForeignKey(Task, on_delete=models.CASCADE)
    tag = models.ForeignKey(Tag, on_delete=models.CASCADE)


class Comment(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)
    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="comments")
    author = models.ForeignKey(Member, on_delete=models.CASCADE)
    body = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)


class Flag(models.Model):
    """The same for all tenants; shown to some plans. The join table of both is Django's own."""

    name = models.CharField(max_length=80, unique=True)
    enabled = models.BooleanField(default=False)
    plans = models.ManyToManyField(Plan, related_name="flags")
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self):
        return self.name


if VERSION >= 2:

    class Milestone(models.Model):
        tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE)
        project = models.ForeignKey(Project, on_delete=models.CASCADE)
        name = models.CharField(max_length=80)
        due_on = models.DateField(null=True)
