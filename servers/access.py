"""Who may see which servers."""

from django.contrib.auth.models import AnonymousUser
from django.db.models import QuerySet

from accounts.access import projects_of
from accounts.models import User

from .models import Server


def servers_of(user: User | AnonymousUser) -> QuerySet[Server]:
    """The servers that a person may see: those of the own projects, for ops all; their projects come along."""
    servers = Server.objects.select_related("project")
    if not isinstance(user, User):
        return servers.none()
    return servers if user.is_ops else servers.filter(project__in=projects_of(user))
