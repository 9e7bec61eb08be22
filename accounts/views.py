"""The pages about people: their projects, and the SSH keys of a project."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import has_role, projects_of
from accounts.forms import SSHKeyForm
from accounts.models import Project, Role, SSHKey, User


@login_required
@require_safe
def projects(request: HttpRequest) -> HttpResponse:
    """The projects that one may see; straight to the keys where there is one alone, but for admins, who add others."""
    mine = list(
        _projects(request).annotate(
            key_count=Count("ssh_keys", distinct=True),
            server_count=Count("servers", distinct=True),
            member_count=Count("memberships", distinct=True),
        )
    )
    if len(mine) == 1 and not has_role(request.user, Role.ADMIN):
        return redirect("keys", mine[0].slug)
    return render(request, "accounts/projects.html", {"projects": mine})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def keys(request: HttpRequest, slug: str) -> HttpResponse:
    """The SSH keys of a project, and the form that adds one."""
    project = get_object_or_404(_projects(request), slug=slug)
    form = SSHKeyForm(request.POST or None, project=project)
    if request.method == "POST" and form.is_valid():
        key = form.save()
        messages.success(request, f"{key.name} is added: the next install of {project} can let it in.")
        return redirect("keys", slug)
    page = {"project": project, "keys": project.ssh_keys.all(), "form": form, "several": _projects(request).count() > 1}
    return render(request, "accounts/keys.html", page, status=400 if form.errors else 200)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def key_delete(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Asks once, then forgets a key. Servers that are installed keep it."""
    project = get_object_or_404(_projects(request), slug=slug)
    key = get_object_or_404(SSHKey, project=project, pk=pk)
    if request.method == "POST":
        key.delete()
        messages.success(request, f"{key.name} is deleted. Servers that were installed with it still let it in.")
        return redirect("keys", slug)
    return render(request, "accounts/key_delete.html", {"project": project, "key": key})


@login_required
@require_safe
def password_changed(request: HttpRequest) -> HttpResponse:
    """Says that the password was changed, on the page one starts from."""
    messages.success(request, "Your password is changed.")
    return redirect("/")


def _projects(request: HttpRequest) -> QuerySet[Project]:
    assert isinstance(request.user, User), "the page asks for a login first"
    return projects_of(request.user)
