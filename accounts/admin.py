"""What the site under people/ shows. Servers, images, licences and keys have pages of their own."""

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group

from .models import Membership, Project, User


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Membership
    extra = 1
    autocomplete_fields = ["user", "project"]


@admin.register(User)
class PersonAdmin(UserAdmin):  # type: ignore[type-arg]
    """Accounts: the role in place of Django's flags, groups and permissions."""

    list_display = ["username", "email", "role_alone", "is_active", "last_login"]
    list_filter = ["role", "is_active"]
    filter_horizontal = []
    fieldsets = [
        (None, {"fields": ["username", "password", "role", "is_active"]}),
        ("Person", {"fields": ["first_name", "last_name", "email"]}),
    ]
    add_fieldsets = [(None, {"fields": ["username", "email", "role", "usable_password", "password1", "password2"]})]
    inlines = [MembershipInline]

    @admin.display(description="Role", ordering="role")
    def role_alone(self, user: User) -> str:
        """The role's name: what it may do stands in the form, and would fill a phone's screen here."""
        return user.role


@admin.register(Project)
class ProjectAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    list_display = ["name", "slug"]
    search_fields = ["name", "slug"]
    prepopulated_fields = {"slug": ["name"]}
    inlines = [MembershipInline]


admin.site.unregister(Group)
