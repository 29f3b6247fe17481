"""What an application does with SQLAlchemy: each step's result has to be the same on shards."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from sqlalchemy import bindparam, case, delete, exists, func, insert, inspect, select, text, update  # noqa: E402
from sqlalchemy.dialects.postgresql import insert as upsert  # noqa: E402
from sqlalchemy.exc import IntegrityError  # noqa: E402
from sqlalchemy.orm import Session, aliased, contains_eager, joinedload, selectinload, subqueryload  # noqa: E402
from sqlalchemy.orm.exc import StaleDataError  # noqa: E402

import models  # noqa: E402
from models import VERSION, Comment, Flag, Member, Plan, Project, ProjectMember, Tag, Task, Tenant, engine  # noqa: E402
from steps import Steps  # noqa: E402

step = Steps(engine.dispose)


def first(function):
    """Before the second migration alone; each step has a session of its own, committed where it succeeds."""
    return step(in_session(function)) if VERSION == 1 else function


def second(function):
    return step(in_session(function)) if VERSION >= 2 else function


def in_session(function):
    def run():
        with Session(engine) as session:
            result = plain(function(session))
            session.commit()
            return result

    run.__name__ = function.__name__
    return run


def plain(rows):
    if rows is None or isinstance(rows, (str, int, float, bool, dict)):
        return rows
    return [tuple(row) if hasattr(row, "_mapping") else row for row in rows]


def tenant(session, n=3):
    return session.scalars(select(Tenant).where(Tenant.slug == f"tenant-{n}")).one()


def titles(tasks):
    return [t.title for t in tasks]


# Reading


@first
def get_and_refresh(s):
    one = tenant(s)
    again = s.get(Tenant, one.id)
    s.refresh(one)
    return [one is again, one.slug, one.settings, one.plan.name]


@first
def get_by_pk_of_row(s):
    pk = s.scalar(select(Task.id).where(Task.title == "task 4 of 3/1"))
    s.expunge_all()
    task = s.get(Task, pk)
    return [task.title, str(task.estimate), str(task.due_on), task.labels, task.project.name, task.assignee.email]


@first
def select_of_tenant(s):
    return titles(s.scalars(select(Task).where(Task.tenant_id == tenant(s).id, Task.state == "open").order_by(Task.title)))


@first
def select_over_tenants(s):
    return s.execute(select(Task.title, Task.estimate).where(Task.state == "doing").order_by(Task.title))


@first
def order_by_hidden(s):
    return s.execute(select(Task.title).order_by(Task.estimate.desc(), Task.title).limit(10).offset(5))


@first
def scalar_one_or_none(s):
    return s.scalars(select(Task).where(Task.title == "nobody")).one_or_none()


@first
def exists_and_count(s):
    return [
        s.scalar(select(exists().where(Task.state == "open"))),
        s.scalar(select(func.count()).select_from(Task)),
        s.scalar(select(func.count(Task.id)).where(Task.tenant_id == tenant(s).id)),
        s.scalar(select(func.count()).select_from(Plan)),
    ]


@first
def in_list(s):
    ids = s.scalars(select(Task.id).order_by(Task.title).limit(5)).all()
    return titles(s.scalars(select(Task).where(Task.id.in_(ids)).order_by(Task.title)))


@first
def lazy_loading(s):
    one = tenant(s)
    return [(p.name, sorted(titles(p.tasks)), sorted(m.name for m in p.members)) for p in sorted(one.projects, key=lambda p: p.name)]


@first
def joinedload_of_tenant(s):
    tasks = s.scalars(
        select(Task).options(joinedload(Task.project), joinedload(Task.assignee)).where(Task.tenant_id == tenant(s).id).order_by(Task.title)
    )
    return [(t.title, t.project.name, t.assignee and t.assignee.name) for t in tasks]


@first
def joinedload_over_tenants(s):
    tasks = s.scalars(select(Task).options(joinedload(Task.project), joinedload(Task.assignee)).order_by(Task.title))
    return [(t.title, t.project.name, t.assignee and t.assignee.email) for t in tasks]


@first
def joinedload_collection(s):
    tenants = s.scalars(select(Tenant).options(joinedload(Tenant.projects)).order_by(Tenant.slug)).unique()
    return [(t.slug, sorted(p.name for p in t.projects)) for t in tenants]


@first
def selectinload_chain(s):
    tenants = s.scalars(
        select(Tenant).options(selectinload(Tenant.projects).selectinload(Project.tasks).selectinload(Task.comments)).order_by(Tenant.slug)
    )
    return [
        (t.slug, [(p.name, len(p.tasks), sum(len(task.comments) for task in p.tasks)) for p in sorted(t.projects, key=lambda p: p.name)])
        for t in tenants
    ]


@first
def selectinload_many_to_many(s):
    projects = s.scalars(select(Project).options(selectinload(Project.members)).order_by(Project.id))
    return sorted((p.name, sorted(m.email for m in p.members)) for p in projects)


@first
def subqueryload_of_tenant(s):
    projects = s.scalars(select(Project).options(subqueryload(Project.tasks)).where(Project.tenant_id == tenant(s).id).order_by(Project.name))
    return [(p.name, len(p.tasks)) for p in projects]


@first
def contains_eager_join(s):
    projects = s.scalars(
        select(Project).join(Project.tasks).options(contains_eager(Project.tasks)).where(Task.state == "done", Project.tenant_id == tenant(s).id)
    ).unique()
    return sorted((p.name, sorted(titles(p.tasks))) for p in projects)


@first
def join_over_tenants(s):
    return s.execute(
        select(Task.title, Member.email).join(Task.assignee).join(Task.project).where(Project.name == "project 1").order_by(Task.title)
    )


@first
def has_and_any(s):
    return [
        titles(s.scalars(select(Task).where(Task.project.has(Project.name == "project 1"), Task.state == "done").order_by(Task.title))),
        [p.name for p in s.scalars(select(Project).where(Project.tasks.any(Task.title == "task 3 of 3/0")))],
    ]


@first
def correlated_subquery(s):
    comments = select(func.count(Comment.id)).where(Comment.task_id == Task.id).scalar_subquery()
    return s.execute(select(Task.title, comments).order_by(Task.title).limit(20))


@first
def aggregates(s):
    return s.execute(select(func.count(Task.id), func.sum(Task.estimate), func.min(Task.estimate), func.max(Task.estimate)))


@first
def average(s):
    return s.execute(select(func.avg(Task.estimate)))


@first
def group_by(s):
    return s.execute(select(Task.state, func.count(), func.sum(Task.estimate)).group_by(Task.state).order_by(Task.state))


@first
def group_by_having(s):
    return s.execute(
        select(Task.tenant_id == tenant(s).id, func.count()).where(Task.tenant_id == tenant(s).id).group_by(Task.tenant_id).having(func.count() > 3)
    )


@first
def group_by_joined(s):
    return s.execute(select(Tenant.slug, func.count(Task.id)).join(Task, Task.tenant_id == Tenant.id).group_by(Tenant.slug).order_by(Tenant.slug))


@first
def distinct(s):
    return s.execute(select(Task.state).distinct().order_by(Task.state))


@first
def case_expression(s):
    size = case((Task.estimate > 4, "big"), else_="small")
    return s.execute(select(size, func.count()).group_by(size).order_by(size))


@first
def cte_of_tenant(s):
    recent = select(Task.id, Task.title).where(Task.tenant_id == tenant(s).id).order_by(Task.title).limit(4).cte()
    return s.execute(select(recent.c.title).order_by(recent.c.title))


@first
def window_of_tenant(s):
    number = func.row_number().over(partition_by=Task.project_id, order_by=Task.title)
    return s.execute(select(Task.title, number).where(Task.tenant_id == tenant(s).id).order_by(Task.title))


@first
def union_of_tenant(s):
    one = tenant(s).id
    return s.execute(
        select(Task.title).where(Task.tenant_id == one, Task.state == "open").union_all(select(Project.name).where(Project.tenant_id == one)).order_by("title")
    )


@first
def self_alias(s):
    other = aliased(Task)
    return s.execute(
        select(Task.title, other.title).join(other, (other.tenant_id == Task.tenant_id) & (other.project_id == Task.project_id) & (other.id > Task.id)).where(
            Task.tenant_id == tenant(s).id, Task.state == "done", other.state == "done"
        ).order_by(Task.title, other.title)
    )


@first
def json_and_arrays(s):
    return [
        s.scalars(select(Tenant.slug).where(Tenant.settings["n"].as_integer() == 7)).all(),
        s.scalar(select(func.count()).where(Task.labels.contains(["l1"]))),
        s.scalar(select(func.count()).where(Task.labels.any("l2"))),
    ]


@first
def stream_of_tenant(s):
    rows = s.execute(select(Task.title).where(Task.tenant_id == tenant(s).id).order_by(Task.title), execution_options={"yield_per": 3})
    return rows.scalars().all()


@first
def stream_over_tenants(s):
    rows = s.execute(select(Task.title).order_by(Task.title), execution_options={"yield_per": 50})
    return [len(part) for part in rows.scalars().partitions()]


@first
def stream_server_side(s):
    with engine.connect().execution_options(stream_results=True) as connection:
        found = connection.execute(select(Task.title).where(Task.tenant_id == tenant(s).id).order_by(Task.title))
        return [found.fetchmany(2), found.fetchone(), len(found.fetchall())]


@first
def raw_sql(s):
    one = tenant(s).id
    return [
        s.execute(text("SELECT state, count(*) FROM tasks WHERE tenant_id = :t GROUP BY state ORDER BY state"), {"t": one}).all(),
        s.execute(text("SELECT 1")).scalar(),
        s.execute(text("SHOW transaction_isolation")).scalar(),
        s.execute(text("SELECT current_schema()")).scalar(),
    ]


@first
def inspection(s):
    found = inspect(engine)
    return [
        sorted(found.get_table_names()),
        [c["name"] for c in found.get_columns("tasks")],
        found.get_pk_constraint("project_members")["constrained_columns"],
        sorted(k["referred_table"] for k in found.get_foreign_keys("tasks")),
        sorted(i["name"] for i in found.get_indexes("tasks")),
        sorted(u["name"] for u in found.get_unique_constraints("projects")),
    ]


# Writing


@first
def add_tenant(s):
    one = Tenant(slug="new", plan=s.scalars(select(Plan).where(Plan.name == "team")).one(), settings={"a": [1, None]})
    s.add(one)
    s.flush()
    s.expire_all()
    return [one.slug, one.settings, one.plan.name, one.created_at is not None]


@first
def add_graph(s):
    one = tenant(s, 4)
    task = Task(tenant_id=one.id, title="graph task", comments=[Comment(tenant_id=one.id, body="a"), Comment(tenant_id=one.id, body="b")])
    s.add(Project(tenant=one, name="graph", owner=one.members[0], tasks=[task]))
    s.commit()
    s.expire_all()
    return [task.title, task.state, task.project.name, sorted(c.body for c in task.comments)]


@first
def add_all_of_tenant(s):
    one = tenant(s, 4)
    project = one.projects[0]
    made = [Task(tenant_id=one.id, project_id=project.id, title=f"all {n}") for n in range(25)]
    s.add_all(made)
    s.commit()
    by_id = dict(s.execute(select(Task.id, Task.title).where(Task.title.like("all %"))).all())
    return [len(by_id), all(by_id[t.id] == t.title for t in made)]


@first
def add_all_over_tenants(s):
    projects = s.scalars(select(Project).order_by(Project.tenant_id, Project.name)).all()
    made = [Task(tenant_id=p.tenant_id, project_id=p.id, title=f"over {p.tenant_id} {p.name}") for p in projects]
    s.add_all(made)
    s.commit()
    by_id = dict(s.execute(select(Task.id, Task.title).where(Task.title.like("over %"))).all())
    return [len(by_id), all(by_id[t.id] == t.title for t in made)]


@first
def add_all_tenants(s):
    plan = s.scalars(select(Plan).where(Plan.name == "free")).one()
    made = [Tenant(slug=f"many-{n}", plan=plan) for n in range(8)]
    s.add_all(made)
    s.commit()
    by_id = dict(s.execute(select(Tenant.id, Tenant.slug).where(Tenant.slug.like("many-%"))).all())
    return [len(by_id), all(by_id[t.id] == t.slug for t in made)]


@first
def add_lookup(s):
    made = [Tag(name=f"new tag {n}") for n in range(5)]
    flag = Flag(name="new flag")
    s.add_all([*made, flag])
    s.commit()
    by_id = dict(s.execute(select(Tag.id, Tag.name).where(Tag.name.like("new tag%"))).all())
    return [len(by_id), all(by_id[t.id] == t.name for t in made), flag.token is not None]


@first
def change_and_flush(s):
    task = s.scalars(select(Task).where(Task.title == "task 1 of 4/0")).one()
    task.title = "changed"
    task.estimate = 9
    s.commit()
    s.refresh(task)
    return [task.title, str(task.estimate), task.version_id]


@first
def change_many(s):
    tasks = s.scalars(select(Task).where(Task.title.like("task 2 %")).order_by(Task.title)).all()
    for n, task in enumerate(tasks):
        task.body = f"changed {n}"
    s.commit()
    return s.execute(select(Task.title, Task.body).where(Task.title.like("task 2 %")).order_by(Task.title))


@first
def stale_version(s):
    task = s.scalars(select(Task).where(Task.title == "task 4 of 4/0")).one()
    with Session(engine) as other:
        other.get(Task, task.id).body = "first"
        other.commit()
    task.body = "second"
    try:
        s.commit()
    except StaleDataError:
        s.rollback()
        return "stale"


@first
def delete_object(s):
    s.delete(s.scalars(select(Task).where(Task.title == "task 5 of 4/0")).one())
    s.commit()
    return s.scalar(select(func.count()).where(Task.title == "task 5 of 4/0"))


@first
def delete_cascade(s):
    project = s.scalars(select(Project).where(Project.tenant_id == tenant(s, 5).id, Project.name == "project 1")).one()
    s.delete(project)
    s.commit()
    return s.scalar(select(func.count()).where(Task.tenant_id == tenant(s, 5).id))


@first
def bulk_update_statement(s):
    one = tenant(s, 6).id
    n = s.execute(update(Task).where(Task.tenant_id == one, Task.state == "open").values(body="bulk", estimate=Task.estimate + 1)).rowcount
    return [n, s.scalar(select(func.count()).where(Task.body == "bulk"))]


@first
def bulk_update_over_tenants(s):
    n = s.execute(update(Task).where(Task.state == "done").values(body="done").execution_options(synchronize_session="fetch")).rowcount
    return [n, s.scalar(select(func.count()).where(Task.body == "done"))]


@first
def bulk_update_by_subquery(s):
    projects = select(Project.id).where(Project.name == "project 0").scalar_subquery()
    return s.execute(update(Task).where(Task.project_id.in_(projects)).values(body="sub").execution_options(synchronize_session=False)).rowcount


@first
def bulk_update_from(s):
    found = s.execute(
        update(Task).where(Task.project_id == Project.id, Project.name == "project 1", Task.state == "open").values(body="from").execution_options(synchronize_session=False)
    )
    return found.rowcount


@first
def bulk_update_by_primary_key(s):
    ids = s.scalars(select(Task.id).where(Task.title.like("task 6 %")).order_by(Task.title)).all()
    s.execute(update(Task), [{"id": pk, "body": f"by key {n}", "version_id": 1} for n, pk in enumerate(ids)])
    return s.execute(select(Task.title, Task.body).where(Task.title.like("task 6 %")).order_by(Task.title))


@first
def bulk_delete_statement(s):
    n = s.execute(delete(Comment).where(Comment.tenant_id == tenant(s, 6).id)).rowcount
    return [n, s.scalar(select(func.count()).select_from(Comment))]


@first
def insert_returning(s):
    one = tenant(s, 6)
    rows = [{"tenant_id": one.id, "project_id": one.projects[0].id, "title": f"returning {n}"} for n in range(5)]
    made = s.scalars(insert(Task).returning(Task, sort_by_parameter_order=True), rows).all()
    return titles(made)


@first
def insert_executemany(s):
    projects = s.execute(select(Project.id, Project.tenant_id)).all()
    s.execute(insert(Task), [{"tenant_id": t, "project_id": p, "title": f"many {p % 2}"} for p, t in projects])
    return s.scalar(select(func.count()).where(Task.title.like("many %")))


@first
def insert_lookup_executemany(s):
    s.execute(insert(Tag), [{"name": f"executemany {n}"} for n in range(6)])
    return s.scalar(select(func.count()).where(Tag.name.like("executemany %")))


@first
def insert_from_select(s):
    one = tenant(s, 6).id
    found = s.execute(
        insert(Comment).from_select(["tenant_id", "task_id", "body"], select(Task.tenant_id, Task.id, Task.title).where(Task.tenant_id == one))
    )
    return found.rowcount


@first
def upsert_do_nothing(s):
    one = tenant(s, 7).id
    found = s.execute(upsert(Project).values(tenant_id=one, name="project 0").on_conflict_do_nothing().returning(Project.id)).all()
    return len(found)


@first
def upsert_do_update(s):
    tenants = s.scalars(select(Tenant.id).where(Tenant.slug.like("tenant-1%")).order_by(Tenant.slug)).all()
    statement = upsert(Project).values([{"tenant_id": t, "name": "project 0", "position": 77} for t in tenants])
    s.execute(statement.on_conflict_do_update(index_elements=["tenant_id", "name"], set_={"position": statement.excluded.position}))
    return s.scalar(select(func.count()).where(Project.position == 77))


@first
def upsert_lookup(s):
    for enabled in (True, False):
        statement = upsert(Flag).values(name="upserted", enabled=enabled)
        s.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"enabled": statement.excluded.enabled}))
    return s.execute(select(Flag.name, Flag.enabled).where(Flag.name == "upserted"))


@first
def core_bindparam(s):
    connection = s.connection()
    statement = update(Project.__table__).where(Project.__table__.c.tenant_id == bindparam("t"), Project.__table__.c.name == "project 0").values(position=bindparam("p"))
    found = connection.execute(statement, [{"t": tenant(s, n).id, "p": n * 10} for n in range(4)])
    return [found.rowcount, s.execute(select(Project.position).where(Project.tenant_id == tenant(s, 2).id).order_by(Project.name)).all()]


@first
def many_to_many(s):
    one = tenant(s, 8)
    newcomer = Member(tenant=one, email="newcomer@tenant-8.example", name="Newcomer")
    s.add(newcomer)
    s.flush()
    s.add(ProjectMember(tenant_id=one.id, project_id=one.projects[0].id, member_id=newcomer.id, role="guest"))
    s.commit()
    there = len(newcomer.projects)
    s.delete(s.get(ProjectMember, (one.projects[0].id, newcomer.id)))
    s.commit()
    s.expire_all()
    return [there, len(newcomer.projects)]


@first
def unique_violation(s):
    s.add(Member(tenant=tenant(s, 8), email="m1@tenant-8.example", name="again"))
    try:
        s.commit()
    except IntegrityError as error:
        s.rollback()
        return error.orig.sqlstate


# Transactions


@first
def nested(s):
    one, other = tenant(s, 9), tenant(s, 10)
    s.add(Project(tenant=one, name="outer"))
    try:
        with s.begin_nested():
            s.add(Project(tenant=other, name="inner"))
            s.flush()
            s.add(Project(tenant=other, name="project 0"))
            s.flush()
    except IntegrityError as error:
        code = error.orig.sqlstate
    s.add(Project(tenant=other, name="after"))
    s.commit()
    return [code, sorted(s.scalars(select(Project.name).where(Project.name.in_(["outer", "inner", "after"]))))]


@first
def nested_rollback(s):
    point = s.begin_nested()
    s.add(Flag(name="nested"))
    s.execute(update(Task).where(Task.state == "open").values(body="nested").execution_options(synchronize_session=False))
    point.rollback()
    with s.begin_nested():
        s.add(Flag(name="nested 2"))
    s.commit()
    return [s.scalar(select(func.count()).where(Task.body == "nested")), s.scalars(select(Flag.name).where(Flag.name.like("nested%"))).all()]


@first
def rollback(s):
    s.execute(update(Task).values(body="gone").execution_options(synchronize_session=False))
    s.rollback()
    return s.scalar(select(func.count()).where(Task.body == "gone"))


@first
def repeatable_read(s):
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        level = connection.execute(text("SHOW transaction_isolation")).scalar()
        n = connection.execute(select(func.count()).select_from(Tenant)).scalar()
        connection.commit()
    return [level, n]


@first
def autocommit(s):
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(insert(Tag).values(name="autocommit"))
        return connection.execute(select(func.count()).where(Tag.name == "autocommit")).scalar()


@first
def with_for_update(s):
    task = s.scalars(select(Task).where(Task.tenant_id == tenant(s, 9).id, Task.title == "task 1 of 9/0").with_for_update()).one()
    task.body = "locked"
    s.commit()
    return task.body


@first
def with_for_update_by_pk(s):
    pk = s.scalar(select(Task.id).where(Task.title == "task 4 of 9/0"))
    task = s.get(Task, pk, with_for_update=True)
    task.body = "locked by pk"
    s.commit()
    return task.body


@first
def with_for_update_skip_locked(s):
    queue = select(Task).where(Task.state == "open").order_by(Task.title).limit(3).with_for_update(skip_locked=True)
    return titles(s.scalars(queue))


@first
def with_for_update_lookup(s):
    plan = s.scalars(select(Plan).where(Plan.name == "team").with_for_update()).one()
    plan.price += 1
    s.commit()
    return str(plan.price)


@first
def two_sessions(s):
    with Session(engine) as other:
        other.add(Flag(name="seen"))
        other.flush()
        before = s.scalar(select(func.count()).where(Flag.name == "seen"))
        other.commit()
    return [before, s.scalar(select(func.count()).where(Flag.name == "seen"))]


@first
def temporary_settings(s):
    s.execute(text("SET LOCAL statement_timeout = '5s'"))
    inside = s.execute(text("SHOW statement_timeout")).scalar()
    s.commit()
    return [inside, s.execute(text("SHOW statement_timeout")).scalar()]


# After the second migration


@second
def new_column(s):
    return s.execute(select(Task.priority, func.count()).group_by(Task.priority).order_by(Task.priority))


@second
def new_table(s):
    one = tenant(s, 13)
    s.add(models.Milestone(tenant_id=one.id, project_id=one.projects[0].id, name="second"))
    s.commit()
    return [
        s.scalar(select(func.count()).select_from(models.Milestone)),
        s.execute(select(models.Milestone.name).where(models.Milestone.tenant_id == one.id).order_by(models.Milestone.name)).all(),
    ]


@second
def changed_schema(s):
    found = inspect(engine)
    return [
        sorted(i["name"] for i in found.get_indexes("tasks")),
        [str(c["type"]) for c in found.get_columns("tasks") if c["name"] == "title"],
        [c["name"] for c in found.get_check_constraints("tasks")],
        s.execute(text("SELECT version_num FROM alembic_version")).all(),
    ]


step.run()
