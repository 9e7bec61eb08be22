"""The site under people/, where admins keep accounts, projects and memberships."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from .access import has_role, role_required
from .models import Role

View = TypeVar("View", bound=Callable[..., Any])


class PeopleSite(AdminSite):
    """Django's admin site behind our own login; to anybody but admins it does not exist."""

    site_header = site_title = "Landfall: people and projects"
    index_title = "People and projects"
    enable_nav_sidebar = False

    def has_permission(self, request: HttpRequest) -> bool:
        return has_role(request.user, Role.ADMIN)

    def admin_view(self, view: View, cacheable: bool = False) -> View:
        return cast(View, role_required(Role.ADMIN)(super().admin_view(view, cacheable)))

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return redirect("login")
