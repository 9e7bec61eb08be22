"""The list of servers, and a server's page."""

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts.access import projects_of
from accounts.filters import filters_of, render_list
from accounts.models import Project
from deploy.events import State
from deploy.models import Install
from deploy.pages import fleet, line
from deploy.pages.past import state_of
from deploy.reading import seen_by
from servers.access import servers_of
from servers.models import Server
from servers.storage.draw import Drawing, drawing, drawing_of

PAGE = 50


@login_required
@require_safe
def servers(request: HttpRequest) -> HttpResponse:
    """The servers that one may see, found by name, address, serial number or MAC, by status and by project."""
    filters = filters_of(request, "q", "status", "project")
    seen = seen_by(request.user)  # before the rows: what happens between the two is told once too often, not too little
    mine = fleet.with_installs(servers_of(request.user)).prefetch_related("disks")
    page = Paginator(fleet.find(mine, **filters).order_by("name"), PAGE).get_page(request.GET.get("page"))
    projects: list[Project] = list(projects_of(request.user))
    return render_list(
        request,
        "servers/servers.html",
        "servers/_found.html",
        {
            "page": page,
            "rows": fleet.rows_of(page.object_list),
            "seen": seen,
            "projects": projects,
            "words": fleet.SERVER_WORDS,
            "filtered": any(filters.values()),
            **filters,
        },
    )


@login_required
@require_safe
def server(request: HttpRequest, name: str) -> HttpResponse:
    """A server: what runs on it, its disks, its last installs. Eight queries, two more while it stands in line."""
    mine = fleet.with_installs(servers_of(request.user)).prefetch_related("disks", "nics")
    found = get_object_or_404(mine, name=name)
    (row,) = fleet.rows_of([found])
    installs = fleet.last_installs(found)
    events = fleet.histories([*installs, *([row.system] if row.system else [])])
    system_state = state_of(row.system, events.get(row.system.pk, [])) if row.system else State()
    return render(
        request,
        "servers/server.html",
        {
            "row": row,
            "server": found,
            "facts": found.facts(),
            "place": line.place_of(row.live) if row.live else None,
            "login": _login(system_state),
            "host_keys": system_state.result("verify").get("host_keys", ()),
            "drawing": _disks_now(found, row.system),
            "bars": fleet.bars(installs, events, timezone.now()),
            "phases": fleet.PHASES,
        },
    )


def _disks_now(server: Server, system: Install | None) -> Drawing:
    """The disks as the system's install laid them out, or as they were last seen."""
    return drawing(system.plan()) if system else drawing_of(server.facts())


def _login(state: State) -> str:
    """The command that logs in to a system that was verified; empty where none was."""
    verified = state.result("verify")
    port = verified.get("port", 22)
    return f"ssh {verified['ssh']}{'' if port == 22 else f' -p {port}'}" if verified.get("ssh") else ""
