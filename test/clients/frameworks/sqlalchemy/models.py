"""An application with tenants. Its second version (APP_VERSION=2) has a column, a table and indexes more."""

import datetime
import decimal
import os
import uuid

from sqlalchemy import ARRAY, DateTime, ForeignKey, Index, Numeric, String, UniqueConstraint, create_engine, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

VERSION = int(os.environ.get("APP_VERSION", "2"))

engine = create_engine(
    "postgresql+psycopg://{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**os.environ)
)


class Base(DeclarativeBase):
    pass


class Plan(Base):
    __tablename__ = "plans"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    price: Mapped[decimal.Decimal] = mapped_column(Numeric(10, 2), server_default="0")
    created_at: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class Tag(Base):
    __tablename__ = "tags"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)


class Tenant(Base):
    __tablename__ = "tenants"
    id: Mapped[int] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(String(80), unique=True)
    plan_id: Mapped[int] = mapped_column(ForeignKey("plans.id"))
    settings: Mapped[dict] = mapped_column(JSONB, server_default="{}")
    created_at: Mapped[datetime.datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    plan: Mapped[Plan] = relationship()
    projects: Mapped[list["Project"]] = relationship(back_populates="tenant", cascade="all, delete-orphan")
    members: Mapped[list["Member"]] = relationship(back_populates="tenant", cascade="all, delete-orphan")


class Member(Base):
    __tablename__ = "members"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"), index=True)
    email: Mapped[str] = mapped_column(String(200), unique=True)
    name: Mapped[str]
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    updated_at: Mapped[datetime.datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )
    tenant: Mapped[Tenant] = relationship(back_populates="members")
    projects: Mapped[list["Project"]] = relationship(secondary="project_members", back_populates="members", viewonly=True)


class ProjectMember(Base):
    """A join table without an id, with the tenant."""

    __tablename__ = "project_members"
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"))
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), primary_key=True)
    member_id: Mapped[int] = mapped_column(ForeignKey("members.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str] = mapped_column(String(20), server_default="member")


class Project(Base):
    __tablename__ = "projects"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"), index=True)
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("members.id", ondelete="SET NULL"))
    name: Mapped[str] = mapped_column(String(200))
    position: Mapped[int | None]
    archived: Mapped[bool] = mapped_column(server_default=text("false"))
    tenant: Mapped[Tenant] = relationship(back_populates="projects")
    owner: Mapped[Member | None] = relationship(foreign_keys=[owner_id])
    members: Mapped[list[Member]] = relationship(secondary="project_members", back_populates="projects", viewonly=True)
    tasks: Mapped[list["Task"]] = relationship(back_populates="project", cascade="all, delete-orphan")


class Task(Base):
    __tablename__ = "tasks"
    __table_args__ = (Index("tasks_tenant_state", "tenant_id", "state"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"))
    project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    assignee_id: Mapped[int | None] = mapped_column(ForeignKey("members.id", ondelete="SET NULL"))
    state: Mapped[str] = mapped_column(String(10), server_default="open")
    title: Mapped[str] = mapped_column(String(200))
    body: Mapped[str] = mapped_column(server_default="")
    estimate: Mapped[decimal.Decimal | None] = mapped_column(Numeric(8, 2))
    due_on: Mapped[datetime.date | None]
    labels: Mapped[list[str]] = mapped_column(ARRAY(String), server_default="{}")
    version_id: Mapped[int] = mapped_column(server_default="1")
    updated_at: Mapped[datetime.datetime] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), onupdate=func.now()
    )
    if VERSION >= 2:
        priority: Mapped[int] = mapped_column(server_default="3")
    project: Mapped[Project] = relationship(back_populates="tasks")
    assignee: Mapped[Member | None] = relationship()
    comments: Mapped[list["Comment"]] = relationship(back_populates="task", cascade="all, delete-orphan")
    __mapper_args__ = {"version_id_col": version_id}


class Comment(Base):
    __tablename__ = "comments"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=text("gen_random_uuid()"))
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"))
    task_id: Mapped[int] = mapped_column(ForeignKey("tasks.id", ondelete="CASCADE"))
    body: Mapped[str]
    task: Mapped[Task] = relationship(back_populates="comments")


class Flag(Base):
    __tablename__ = "flags"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    enabled: Mapped[bool] = mapped_column(server_default=text("false"))
    token: Mapped[uuid.UUID] = mapped_column(server_default=text("gen_random_uuid()"))


if VERSION >= 2:

    class Milestone(Base):
        __tablename__ = "milestones"
        id: Mapped[int] = mapped_column(primary_key=True)
        tenant_id: Mapped[int] = mapped_column(ForeignKey("tenants.id"))
        project_id: Mapped[int] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
        name: Mapped[str]
