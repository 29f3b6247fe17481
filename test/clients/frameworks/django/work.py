"""What an application does with its ORM: each step's result has to be the same on shards."""

import os
import sys

import django
from django.test.utils import setup_test_environment

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
django.setup()
setup_test_environment()

import datetime  # noqa: E402
import uuid  # noqa: E402

from django.contrib.auth.models import Group, Permission, User  # noqa: E402
from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.core.cache import cache  # noqa: E402
from django.core.paginator import Paginator  # noqa: E402
from django.db import IntegrityError, connection, transaction  # noqa: E402
from django.db.models import Avg, Case, Count, Exists, F, Max, Min, OuterRef, Prefetch, Q, Subquery, Sum, Value, When  # noqa: E402
from django.db.models.functions import Coalesce, Lower, TruncMonth  # noqa: E402
from django.test import Client  # noqa: E402

from shop.models import (  # noqa: E402
    VERSION,
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
from steps import Steps  # noqa: E402


def recover():
    connection.close()


step = Steps(recover)
only_first = [] if VERSION == 1 else None


def first(function):
    """Before the second migration alone."""
    return step(function) if VERSION == 1 else function


def second(function):
    return step(function) if VERSION >= 2 else function


def tenant(n=3):
    return Tenant.objects.get(slug=f"tenant-{n}")


# Reading


@first
def get_by_unique():
    one = tenant()
    return [one.slug, one.settings, one.plan.name]


@first
def get_by_pk_of_row():
    task = Task.objects.get(title="task 4 of 3/1")
    again = Task.objects.get(pk=task.pk)
    return [again.title, again.estimate, again.due_on, again.labels, again.tenant.slug]


@first
def filter_of_tenant():
    return Task.objects.filter(tenant=tenant(), state="open").order_by("title").values_list("title", flat=True)


@first
def filter_over_tenants():
    return Task.objects.filter(state="doing", due_on__lt="2026-04-01").order_by("title").values_list("title", "estimate")


@first
def does_not_exist():
    try:
        Task.objects.get(tenant=tenant(), title="nobody")
    except Task.DoesNotExist:
        return "nothing"


@first
def first_and_last():
    tasks = Task.objects.order_by("title")
    return [tasks.first().title, tasks.last().title, Task.objects.filter(tenant=tenant()).order_by("pk").first().title]


@first
def exists_count():
    return [
        Task.objects.filter(state="open").exists(),
        Task.objects.filter(state="never").exists(),
        Task.objects.count(),
        Task.objects.filter(tenant=tenant()).count(),
        Plan.objects.count(),
    ]


@first
def in_bulk():
    pks = list(Task.objects.order_by("title").values_list("pk", flat=True)[:5])
    return sorted(task.title for task in Task.objects.in_bulk(pks).values())


@first
def select_related_of_tenant():
    tasks = Task.objects.select_related("project", "assignee", "tenant__plan").filter(tenant=tenant()).order_by("title")
    return [(t.title, t.project.name, t.assignee and t.assignee.name, t.tenant.plan.name) for t in tasks]


@first
def select_related_over_tenants():
    tasks = Task.objects.select_related("project", "assignee").order_by("title", "pk")
    return [(t.title, t.project.name, t.assignee and t.assignee.email) for t in tasks]


@first
def prefetch_related():
    projects = Project.objects.filter(tenant=tenant()).order_by("name").prefetch_related(
        "members", Prefetch("tasks", queryset=Task.objects.order_by("title").prefetch_related("tags", "comments"))
    )
    return [
        (
            p.name,
            sorted(m.name for m in p.members.all()),
            [(t.title, sorted(tag.name for tag in t.tags.all()), len(t.comments.all())) for t in p.tasks.all()],
        )
        for p in projects
    ]


@first
def prefetch_over_tenants():
    projects = Project.objects.order_by("tenant__slug", "name").prefetch_related("members", "tasks")
    return [(p.name, sorted(m.email for m in p.members.all()), len(p.tasks.all())) for p in projects]


@first
def reverse_relations():
    one = tenant()
    project = one.project_set.order_by("name").first()
    return [
        project.name,
        project.tasks.count(),
        project.tasks.filter(state="open").count(),
        sorted(project.members.values_list("name", flat=True)),
        sorted(one.member_set.values_list("email", flat=True)),
    ]


@first
def across_relations():
    found = Task.objects.filter(project__owner__email="m1@tenant-5.example", tags__name="tag 2")
    return found.order_by("title").values_list("title", "project__name")


@first
def across_relations_distinct():
    found = Project.objects.filter(tasks__state="open", tenant=tenant()).distinct().order_by("name")
    return found.values_list("name", flat=True)


@first
def distinct_over_tenants():
    return Task.objects.values_list("state", flat=True).distinct().order_by("state")


@first
def aggregate_over_tenants():
    return Task.objects.aggregate(n=Count("id"), total=Sum("estimate"), low=Min("estimate"), high=Max("estimate"))


@first
def aggregate_average():
    return Task.objects.aggregate(average=Avg("estimate"))


@first
def aggregate_of_tenant():
    return Task.objects.filter(tenant=tenant()).aggregate(
        n=Count("id"), states=Count("state", distinct=True), average=Avg("estimate")
    )


@first
def annotate_group_by():
    return Task.objects.values("state").annotate(n=Count("id"), total=Sum("estimate")).order_by("state")


@first
def annotate_group_by_tenant():
    return Tenant.objects.annotate(n=Count("task")).order_by("slug").values_list("slug", "n")


@first
def annotate_conditional():
    return (
        Task.objects.filter(tenant=tenant())
        .aggregate(open=Count("id", filter=Q(state="open")), done=Count("id", filter=Q(state="done")))
    )


@first
def annotate_conditional_over_tenants():
    return Task.objects.aggregate(open=Count("id", filter=Q(state="open")), done=Count("id", filter=Q(state="done")))


@first
def annotate_month():
    return (
        Task.objects.filter(tenant=tenant())
        .annotate(month=TruncMonth("due_on"))
        .values("month")
        .annotate(n=Count("id"))
        .order_by("month")
        .values_list("month", "n")
    )


@first
def subquery_and_exists():
    latest = Comment.objects.filter(task=OuterRef("pk"), tenant=OuterRef("tenant")).order_by("-body").values("body")[:1]
    tasks = Task.objects.filter(tenant=tenant()).annotate(
        latest=Subquery(latest), has=Exists(Comment.objects.filter(task=OuterRef("pk"), tenant=OuterRef("tenant")))
    )
    return tasks.order_by("title").values_list("title", "latest", "has")


@first
def exists_without_tenant():
    tasks = Task.objects.filter(Exists(Comment.objects.filter(task=OuterRef("pk"))))
    return tasks.order_by("title").values_list("title", flat=True)


@first
def in_subquery():
    members = Member.objects.filter(tenant=tenant(), name="Member 1")
    return Task.objects.filter(tenant=tenant(), assignee__in=members).order_by("title").values_list("title", flat=True)


@first
def in_subquery_over_tenants():
    projects = Project.objects.filter(name="project 1")
    return Task.objects.filter(project__in=projects, state="done").order_by("title").values_list("title", flat=True)


@first
def union_of_tenant():
    one = Task.objects.filter(tenant=tenant(), state="open").values_list("title")
    return one.union(Task.objects.filter(tenant=tenant(), state="done").values_list("title")).order_by("title")


@first
def json_and_arrays():
    return [
        Tenant.objects.filter(settings__n=7).values_list("slug", flat=True),
        Tenant.objects.filter(settings__n__gte=15).order_by("slug").values_list("slug", flat=True),
        Task.objects.filter(labels__contains=["l1"], tenant=tenant()).count(),
        Task.objects.filter(labels__overlap=["l1", "l2"]).count(),
    ]


@first
def expressions():
    tasks = Task.objects.filter(tenant=tenant()).annotate(
        low=Lower("title"),
        size=Case(When(estimate__gt=4, then=Value("big")), default=Value("small")),
        worth=F("estimate") * 2,
    )
    return tasks.order_by("title").values_list("low", "size", "worth")


@first
def text_search():
    return Member.objects.filter(Q(email__icontains="TENANT-1") | Q(name__startswith="nobody")).order_by("email").values_list("email", flat=True)


@first
def pagination():
    pages = Paginator(Task.objects.order_by("title"), 25)
    return [pages.count, pages.num_pages, [t.title for t in pages.page(3)], [t.title for t in pages.page(pages.num_pages)]]


@first
def pagination_of_tenant():
    pages = Paginator(Task.objects.filter(tenant=tenant()).order_by("-title"), 5)
    return [pages.count, [t.title for t in pages.page(2)]]


@first
def slices():
    return Task.objects.order_by("-estimate", "title").values_list("title", flat=True)[10:20]


@first
def dates():
    return Task.objects.filter(tenant=tenant()).dates("due_on", "month")


@first
def dates_over_tenants():
    return Task.objects.dates("due_on", "month")


@first
def iterator_of_tenant():
    return sorted(t.title for t in Task.objects.filter(tenant=tenant()).iterator(chunk_size=3))


@first
def iterator_over_tenants():
    return sorted(t.title for t in Task.objects.iterator(chunk_size=50))


@first
def iterator_in_transaction():
    with transaction.atomic():
        rows = sorted(t.title for t in Task.objects.filter(tenant=tenant()).iterator(chunk_size=3))
        Task.objects.filter(tenant=tenant()).update(body="")
    return rows


@first
def explain():
    return "Scan" in Task.objects.filter(tenant=tenant()).explain()


@first
def raw_manager():
    rows = Task.objects.raw("SELECT id, title FROM shop_task WHERE tenant_id = %s ORDER BY title LIMIT 3", [tenant().pk])
    return [t.title for t in rows]


@first
def raw_cursor():
    with connection.cursor() as cursor:
        cursor.execute("SELECT state, count(*) FROM shop_task GROUP BY state ORDER BY state")
        grouped = cursor.fetchall()
        cursor.execute("SELECT 1")
        one = cursor.fetchone()
        cursor.execute("SHOW statement_timeout")
        return [grouped, one, cursor.fetchone()]


@first
def introspection():
    with connection.cursor() as cursor:
        tables = sorted(t.name for t in connection.introspection.get_table_list(cursor) if t.name.startswith("shop_"))
        columns = [c.name for c in connection.introspection.get_table_description(cursor, "shop_task")]
        keys = connection.introspection.get_relations(cursor, "shop_task")
        constraints = sorted(connection.introspection.get_constraints(cursor, "shop_project"))
        sequences = connection.introspection.get_sequences(cursor, "shop_task")
    return [tables, sorted(columns), {k: list(v) for k, v in keys.items()}, constraints, sequences]


# Writing


@first
def create_tenant():
    one = Tenant.objects.create(slug="new", plan=Plan.objects.get(name="team"), settings={"a": [1, None]})
    again = Tenant.objects.get(slug="new")
    return [again.pk == one.pk, again.settings, again.plan.name]


@first
def create_below():
    one = tenant(4)
    project = Project.objects.create(tenant=one, name="made", owner=one.member_set.first())
    task = Task.objects.create(tenant=one, project=project, title="made task", estimate="1.50")
    comment = Comment.objects.create(tenant=one, task=task, author=one.member_set.first(), body="made")
    return [
        Project.objects.get(pk=project.pk).name,
        Task.objects.get(pk=task.pk).estimate,
        Comment.objects.get(pk=comment.pk).body,
        isinstance(comment.pk, uuid.UUID),
    ]


@first
def save_again():
    task = Task.objects.get(title="task 1 of 4/0")
    task.title = "changed 1 of 4/0"
    task.save()
    task.refresh_from_db()
    return [task.title, task.updated_at > task.created_at]


@first
def save_some_fields():
    task = Task.objects.get(title="task 2 of 4/0")
    task.body = "B"
    task.save(update_fields=["body", "updated_at"])
    return Task.objects.get(pk=task.pk).body


@first
def update_of_tenant():
    return Task.objects.filter(tenant=tenant(4), state="open").update(state="doing", estimate=F("estimate") + 1)


@first
def update_over_tenants():
    n = Task.objects.filter(state="done").update(body="done")
    return [n, Task.objects.filter(body="done").count()]


@first
def update_by_subquery():
    return Task.objects.filter(project__name="project 0", project__tenant=tenant(4)).update(body="sub")


@first
def update_across_relation():
    return Task.objects.filter(project__name="project 0").update(body="relation")


@first
def delete_one():
    task = Task.objects.get(title="task 3 of 4/0")
    deleted = task.delete()
    return [deleted[0], sorted(deleted[1])]


@first
def delete_many():
    deleted = Task.objects.filter(title__startswith="task 7").delete()
    return [deleted[0], deleted[1], Task.objects.count()]


@first
def delete_cascade():
    one = tenant(5)
    deleted = one.project_set.get(name="project 1").delete()
    return [deleted, Task.objects.filter(tenant=one).count()]


@first
def delete_set_null():
    member = Member.objects.get(email="m1@tenant-5.example")
    Comment.objects.filter(author=member).delete()
    member.delete()
    return [Project.objects.filter(tenant=tenant(5), owner=None).count(), Member.objects.filter(tenant=tenant(5)).count()]


@first
def delete_tenant():
    deleted = tenant(19).delete()
    return [deleted[0], Tenant.objects.count(), Task.objects.filter(title__contains=" of 19/").count()]


@first
def raw_delete():
    one = tenant(6)
    return Comment.objects.filter(tenant=one)._raw_delete("default")


@first
def bulk_create():
    one = tenant(6)
    project = one.project_set.first()
    made = Task.objects.bulk_create([Task(tenant=one, project=project, title=f"bulk {n}") for n in range(20)])
    by_pk = {t.pk: t.title for t in Task.objects.filter(title__startswith="bulk ")}
    return [len(made), all(by_pk.get(t.pk) == t.title for t in made)]


@first
def bulk_create_over_tenants():
    made = Task.objects.bulk_create(
        [Task(tenant_id=p.tenant_id, project=p, title=f"over {p.tenant_id}") for p in Project.objects.order_by("tenant__slug", "name")],
    )
    by_pk = {t.pk: (t.title, t.tenant_id) for t in Task.objects.filter(title__startswith="over ")}
    return [len(made), all(by_pk.get(t.pk) == (t.title, t.tenant_id) for t in made)]


@first
def bulk_create_batches():
    one = tenant(6)
    project = one.project_set.first()
    made = Task.objects.bulk_create([Task(tenant=one, project=project, title=f"batch {n}") for n in range(10)], batch_size=3)
    return [len(made), Task.objects.filter(title__startswith="batch ").count()]


@first
def bulk_create_ignore_conflicts():
    one = tenant(6)
    Project.objects.bulk_create(
        [Project(tenant=one, name="project 0"), Project(tenant=one, name="fresh")], ignore_conflicts=True
    )
    return one.project_set.order_by("name").values_list("name", flat=True)


@first
def bulk_create_upsert():
    rows = [Project(tenant=t, name="project 0", position=77) for t in Tenant.objects.filter(slug__startswith="tenant-1").order_by("slug")]
    made = Project.objects.bulk_create(rows, update_conflicts=True, unique_fields=["tenant", "name"], update_fields=["position"])
    return [len(made), Project.objects.filter(position=77).count()]


@first
def bulk_create_tenants():
    plan = Plan.objects.get(name="free")
    made = Tenant.objects.bulk_create([Tenant(slug=f"bulk-{n}", plan=plan) for n in range(8)])
    by_pk = {t.pk: t.slug for t in Tenant.objects.filter(slug__startswith="bulk-")}
    return [all(by_pk.get(t.pk) == t.slug for t in made), len(by_pk)]


@first
def bulk_create_lookup():
    made = Tag.objects.bulk_create([Tag(name=f"bulk tag {n}") for n in range(5)])
    return [len({t.pk for t in made}), Tag.objects.filter(name__startswith="bulk tag").count()]


@first
def bulk_update_of_tenant():
    tasks = list(Task.objects.filter(tenant=tenant(7)).order_by("title"))
    for n, task in enumerate(tasks):
        task.estimate = n
        task.body = f"bulk update {n}"
    return [Task.objects.bulk_update(tasks, ["estimate", "body"]), Task.objects.filter(tenant=tenant(7)).order_by("title").values_list("title", "estimate", "body")]


@first
def bulk_update_over_tenants():
    tasks = list(Task.objects.filter(title__startswith="task 5").order_by("title"))
    for n, task in enumerate(tasks):
        task.estimate = n * 2
    return [
        Task.objects.bulk_update(tasks, ["estimate"], batch_size=10),
        Task.objects.filter(title__startswith="task 5").order_by("title").values_list("title", "estimate"),
    ]


@first
def get_or_create():
    one = tenant(7)
    first_time = Project.objects.get_or_create(tenant=one, name="either", defaults={"position": 1})
    again = Project.objects.get_or_create(tenant=one, name="either", defaults={"position": 2})
    return [first_time[1], again[1], first_time[0].pk == again[0].pk, again[0].position]


@first
def get_or_create_tenant():
    plan = Plan.objects.get(name="free")
    return [Tenant.objects.get_or_create(slug="either", defaults={"plan": plan})[1] for _ in range(2)]


@first
def update_or_create():
    one = tenant(7)
    made = [Project.objects.update_or_create(tenant=one, name="both", defaults={"position": n})[1] for n in range(2)]
    return [made, Project.objects.get(tenant=one, name="both").position]


@first
def update_or_create_lookup():
    made = [Plan.objects.update_or_create(name="gold", defaults={"price": n})[1] for n in range(2)]
    return [made, Plan.objects.get(name="gold").price]


@first
def many_to_many_through():
    one = tenant(8)
    project = one.project_set.order_by("name").first()
    newcomer = Member.objects.create(tenant=one, email="newcomer@tenant-8.example", name="Newcomer")
    project.members.add(newcomer, through_defaults={"tenant": one, "role": "guest"})
    before = sorted(project.members.values_list("name", flat=True))
    project.members.remove(newcomer)
    after = sorted(project.members.values_list("name", flat=True))
    project.members.set([newcomer], through_defaults={"tenant": one})
    last = sorted(project.members.values_list("name", flat=True))
    project.members.clear()
    return [before, after, last, project.members.count()]


@first
def many_to_many_lookup():
    flag = Flag.objects.get(name="flag 1")
    gold = Plan.objects.create(name="silver", price=5)
    flag.plans.add(gold)
    one = sorted(flag.plans.values_list("name", flat=True))
    flag.plans.remove(gold)
    two = sorted(flag.plans.values_list("name", flat=True))
    flag.plans.set(Plan.objects.filter(name__in=["free", "silver"]))
    return [one, two, sorted(flag.plans.values_list("name", flat=True)), gold.flags.count()]


@first
def lookup_crud():
    flag = Flag.objects.create(name="crud")
    flag.enabled = True
    flag.save()
    Flag.objects.filter(name="crud").update(enabled=False)
    seen = Flag.objects.filter(pk=flag.pk).values_list("name", "enabled")
    rows = list(seen)
    return [rows, flag.delete()]


@first
def unique_violation():
    try:
        with transaction.atomic():
            Member.objects.create(tenant=tenant(8), email="m1@tenant-8.example", name="again")
    except IntegrityError as error:
        return error.__cause__.sqlstate


@first
def foreign_key_violation():
    try:
        with transaction.atomic():
            Project.objects.create(tenant_id=tenant(8).pk, owner_id=99999999, name="no owner")
    except IntegrityError as error:
        return error.__cause__.sqlstate


@first
def protected():
    try:
        Plan.objects.get(name="free").delete()
    except django.db.models.ProtectedError as error:
        return len(error.protected_objects)


# Transactions


@first
def atomic_commit():
    with transaction.atomic():
        Tenant.objects.filter(slug="tenant-9").update(settings={"in": "atomic"})
        Plan.objects.filter(name="all").update(price=100)
        Task.objects.filter(state="doing").update(body="atomic")
    return [tenant(9).settings, Plan.objects.get(name="all").price, Task.objects.filter(body="atomic").count()]


@first
def atomic_rollback():
    try:
        with transaction.atomic():
            Task.objects.filter(state="doing").update(body="gone")
            raise ValueError
    except ValueError:
        pass
    return Task.objects.filter(body="gone").count()


@first
def nested_atomic():
    one, other = tenant(9), tenant(10)
    with transaction.atomic():
        Project.objects.create(tenant=one, name="outer")
        try:
            with transaction.atomic():
                Project.objects.create(tenant=other, name="inner")
                Project.objects.create(tenant=other, name="inner")
        except IntegrityError as error:
            code = error.__cause__.sqlstate
        Project.objects.create(tenant=other, name="after")
    return [code, sorted(Project.objects.filter(name__in=["outer", "inner", "after"]).values_list("name", flat=True))]


@first
def nested_atomic_rollback():
    one = tenant(9)
    with transaction.atomic():
        Project.objects.create(tenant=one, name="kept")
        try:
            with transaction.atomic():
                Project.objects.create(tenant=tenant(11), name="dropped")
                Task.objects.filter(state="open").update(body="dropped")
                raise ValueError
        except ValueError:
            pass
        n = Task.objects.filter(body="dropped").count()
    return [n, sorted(Project.objects.filter(name__in=["kept", "dropped"]).values_list("name", flat=True))]


@first
def savepoints_by_hand():
    with transaction.atomic():
        before = transaction.savepoint()
        Flag.objects.create(name="savepoint")
        transaction.savepoint_rollback(before)
        again = transaction.savepoint()
        Flag.objects.create(name="savepoint 2")
        transaction.savepoint_commit(again)
    return sorted(Flag.objects.filter(name__startswith="savepoint").values_list("name", flat=True))


@first
def get_or_create_in_atomic():
    one = tenant(9)
    with transaction.atomic():
        rows = [Project.objects.get_or_create(tenant=one, name=name)[1] for name in ["x", "y", "x"]]
    return rows


@first
def on_commit():
    done = []
    with transaction.atomic():
        transaction.on_commit(lambda: done.append("committed"))
        Flag.objects.create(name="on commit")
    return done


@first
def select_for_update_of_tenant():
    with transaction.atomic():
        task = Task.objects.select_for_update().get(tenant=tenant(9), title="task 1 of 9/0")
        task.body = "locked"
        task.save()
    return Task.objects.get(pk=task.pk).body


@first
def select_for_update_by_pk():
    pk = Task.objects.get(title="task 1 of 9/0").pk
    with transaction.atomic():
        task = Task.objects.select_for_update(of=("self",)).select_related("project").get(pk=pk)
        task.body = "locked by pk"
        task.save()
    return Task.objects.get(pk=task.pk).body


@first
def select_for_update_skip_locked():
    with transaction.atomic():
        queue = Task.objects.select_for_update(skip_locked=True).filter(state="open").order_by("title")[:3]
        return [t.title for t in queue]


@first
def select_for_update_lookup():
    with transaction.atomic():
        plan = Plan.objects.select_for_update().get(name="team")
        plan.price += 1
        plan.save()
    return Plan.objects.get(name="team").price


@first
def serializable():
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    with transaction.atomic():
        n = Task.objects.count()
        with connection.cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            level = cursor.fetchone()
    connection.close()
    return [n, level]


@first
def set_constraints():
    one = tenant(9)
    with transaction.atomic():
        connection.check_constraints()
        Project.objects.create(tenant=one, name="constraints")
        connection.check_constraints()
    return Project.objects.filter(name="constraints").count()


@first
def executemany():
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO shop_tasktag (tenant_id, task_id, tag_id) SELECT tenant_id, id, %s FROM shop_task WHERE tenant_id = %s AND title = %s",
            [(Tag.objects.first().pk, tenant(n).pk, f"task 0 of {n}/0") for n in range(4)],
        )
        cursor.executemany("UPDATE shop_task SET body = %s WHERE tenant_id = %s", [(f"many {n}", tenant(n).pk) for n in range(4)])
    return [Task.objects.filter(body__startswith="many").count(), TaskTag.objects.count()]


@first
def copy_in_and_out():
    one = tenant(9)
    with connection.cursor() as cursor:
        with cursor.copy("COPY shop_project (tenant_id, name, archived, created_at) FROM STDIN") as copy:
            for n in range(5):
                copy.write_row((one.pk, f"copied {n}", False, datetime.datetime(2026, 1, 1)))
        with cursor.copy("COPY (SELECT name FROM shop_project WHERE tenant_id = %s AND name LIKE 'copied%%' ORDER BY name) TO STDOUT", [one.pk]) as copy:
            return [row[0] for row in copy.rows()]


@first
def named_cursor():
    with transaction.atomic():
        with connection.chunked_cursor() as cursor:
            cursor.execute("SELECT title FROM shop_task WHERE tenant_id = %s ORDER BY title", [tenant(9).pk])
            return [cursor.fetchmany(2), cursor.fetchmany(2)]


@first
def truncate():
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE shop_tasktag")
    return TaskTag.objects.count()


# What comes with Django


@first
def users_and_groups():
    user = User.objects.create_user("ann", "ann@example.org", "pw")
    user.groups.add(Group.objects.get(name="staff"))
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_")[:2])
    return [user.has_perm("shop.add_task"), user.groups.count(), user.user_permissions.count()]


@first
def content_types():
    ContentType.objects.clear_cache()
    kind = ContentType.objects.get_for_model(Task)
    return [kind.app_label, kind.model, kind.model_class() is Task]


@first
def cache_in_database():
    cache.set("a", {"b": 1}, 60)
    cache.set("a", {"b": 2}, 60)
    cache.set_many({"c": 1, "d": 2})
    cache.add("e", 1)
    cache.incr("c")
    cache.delete("d")
    return [cache.get("a"), cache.get_many(["c", "d", "e"])]


def admin():
    client = Client()
    user = User.objects.get(username="root")
    client.force_login(user)
    return client


def results(response):
    if response.status_code != 200:
        return response.status_code
    changes = response.context["cl"]
    return [changes.result_count, changes.full_result_count, [str(one) for one in changes.result_list]]


@first
def admin_login():
    client = Client()
    answer = client.post("/admin/login/?next=/admin/", {"username": "root", "password": "secret"})
    return [answer.status_code, client.get("/admin/").status_code]


@first
def admin_list():
    return results(admin().get("/admin/shop/task/?o=1"))


@first
def admin_list_filtered():
    return results(admin().get("/admin/shop/task/?state__exact=open&q=of+3&o=1"))


@first
def admin_list_page():
    return results(admin().get("/admin/shop/task/?p=3&o=1"))


@first
def admin_list_members():
    return results(admin().get("/admin/shop/member/?q=tenant-3&o=1"))


@first
def admin_list_tenants():
    return results(admin().get("/admin/shop/tenant/"))[:2]


@first
def admin_change():
    project = Project.objects.get(tenant=tenant(11), name="project 1")
    url = f"/admin/shop/project/{project.pk}/change/"
    client = admin()
    page = client.get(url)
    answer = client.post(url, {"tenant": project.tenant_id, "name": "by admin", "owner": "", "position": "4"})
    history = client.get(f"/admin/shop/project/{project.pk}/history/")
    return [page.status_code, answer.status_code, Project.objects.get(pk=project.pk).name, history.context["action_list"].paginator.count]


@first
def admin_add():
    answer = admin().post("/admin/shop/plan/add/", {"name": "by admin", "price": "3.50"})
    return [answer.status_code, Plan.objects.get(name="by admin").price]


@first
def admin_add_sharded():
    plan = Plan.objects.get(name="free")
    answer = admin().post("/admin/shop/tenant/add/", {"slug": "by-admin", "plan": plan.pk, "settings": "{}"})
    return [answer.status_code, Tenant.objects.filter(slug="by-admin").count()]


@first
def admin_delete_selected():
    one = Project.objects.get(tenant=tenant(12), name="project 1")
    client = admin()
    data = {"action": "delete_selected", "_selected_action": [one.pk]}
    page = client.post("/admin/shop/project/", data)
    answer = client.post("/admin/shop/project/", {**data, "post": "yes"})
    return [page.status_code, answer.status_code, Project.objects.filter(pk=one.pk).count()]


# After the second migration


@second
def new_column():
    return Task.objects.values("priority", "points").annotate(n=Count("id")).order_by("priority", "points")


@second
def new_table():
    from shop.models import Milestone

    one = tenant(13)
    made = Milestone.objects.create(tenant=one, project=one.project_set.order_by("name").first(), name="second")
    return [Milestone.objects.count(), Milestone.objects.get(pk=made.pk).project.name]


@second
def filter_new_column():
    return Task.objects.filter(tenant=tenant(13), priority__gte=4).order_by("title").values_list("title", "body")


@second
def new_constraints():
    with connection.cursor() as cursor:
        return sorted(connection.introspection.get_constraints(cursor, "shop_task"))


@second
def recorded_migrations():
    from django.db.migrations.recorder import MigrationRecorder

    applied = MigrationRecorder(connection).applied_migrations()
    return sorted(name for app, name in applied if app == "shop")


step.run()
