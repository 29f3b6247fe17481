"""Rows of the application's first version, made by the framework."""

from sqlalchemy.orm import Session

from models import Comment, Flag, Member, Plan, Project, ProjectMember, Tag, Task, Tenant, engine

with Session(engine) as session:
    plans = [Plan(name=name, price=price) for name, price in [("free", 0), ("team", 10), ("all", 99)]]
    session.add_all([*plans, *(Tag(name=f"tag {n}") for n in range(10)), *(Flag(name=f"flag {n}") for n in range(5))])
    session.flush()
    for n in range(20):
        tenant = Tenant(slug=f"tenant-{n}", plan=plans[n % 3], settings={"n": n})
        session.add(tenant)
        session.flush()
        members = [
            Member(tenant=tenant, email=f"m{m}@tenant-{n}.example", name=f"Member {m}") for m in range(4)
        ]
        session.add_all(members)
        session.flush()
        for p in range(2):
            project = Project(tenant=tenant, owner=members[p], name=f"project {p}", position=p)
            session.add(project)
            session.flush()
            session.add_all(
                ProjectMember(tenant_id=tenant.id, project_id=project.id, member_id=m.id) for m in members[: p + 2]
            )
            for t in range(8):
                task = Task(
                    tenant_id=tenant.id,
                    project=project,
                    assignee=members[t % 4] if t % 3 else None,
                    state=["open", "doing", "done"][t % 3],
                    title=f"task {t} of {n}/{p}",
                    estimate=t + 0.25,
                    due_on=f"2026-0{t % 9 + 1}-11",
                    labels=[f"l{t % 4}", "x"],
                )
                session.add(task)
                session.flush()
                if t < 3:
                    session.add(Comment(tenant_id=tenant.id, task=task, body=f"on {task.title}"))
    session.commit()
