"""Who may see what. What one may not see does not exist: it is a 404, never a 403."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.views import redirect_to_login
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase

from .models import Project, Role, User

Rest = ParamSpec("Rest")
View = Callable[Concatenate[HttpRequest, Rest], HttpResponseBase]

_RANK = {role: rank for rank, role in enumerate(Role)}


def has_role(user: User | AnonymousUser, role: Role) -> bool:
    """Whether the person has the role, or one that may do more. Nobody, and whoever is switched off, has none."""
    return isinstance(user, User) and user.is_active and _RANK[Role(user.role)] >= _RANK[role]


def projects_of(user: User | AnonymousUser) -> QuerySet[Project]:
    """The projects that the person may see: the own ones; for ops and admins, all."""
    if not isinstance(user, User) or not user.is_active:
        return Project.objects.none()
    return Project.objects.all() if user.is_ops else Project.objects.filter(memberships__user=user)


def role_required(role: Role) -> Callable[[View[Rest]], View[Rest]]:
    """A view for those with the role or a higher one: others get a 404, and who is not logged in is asked to."""

    def guard(view: View[Rest]) -> View[Rest]:
        @wraps(view)
        def guarded(request: HttpRequest, /, *args: Rest.args, **kwargs: Rest.kwargs) -> HttpResponseBase:
            if not request.user.is_authenticated:
                return redirect_to_login(request.get_full_path())
            if not has_role(request.user, role):
                raise Http404
            return view(request, *args, **kwargs)

        return guarded

    return guard
