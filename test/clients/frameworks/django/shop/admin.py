from django.contrib import admin

from .models import Flag, Member, Plan, Project, Task, Tenant


@admin.register(Task)
class TaskAdmin(admin.ModelAdmin):
    list_display = ["title", "state", "project", "assignee", "estimate"]
    list_filter = ["state", "due_on"]
    search_fields = ["title", "body"]
    list_select_related = ["project", "assignee"]
    date_hierarchy = "due_on"
    list_per_page = 10


@admin.register(Plan)
class PlanAdmin(admin.ModelAdmin):
    list_display = ["name", "price"]


@admin.register(Member)
class MemberAdmin(admin.ModelAdmin):
    list_display = ["email", "tenant", "is_active"]
    list_filter = ["is_active"]
    search_fields = ["email", "tenant__slug"]


admin.site.register([Tenant, Project, Flag])
