"""The inventory: admins enter the machines."""

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import role_required
from accounts.filters import filters_of, render_list
from accounts.models import Role
from servers.forms import DisksFormSet, NicsFormSet, ServerForm, disks_formset, nics_formset
from servers.models import Server

PAGE = 50


@role_required(Role.ADMIN)
@require_safe
def inventory(request: HttpRequest) -> HttpResponse:
    """Every machine with what Landfall reaches it by."""
    q = filters_of(request, "q")["q"]
    servers = Server.objects.select_related("project").prefetch_related("nics")
    for word in q.split():
        macs = Server.objects.filter(nics__mac__contains=word.lower().replace("-", ":")).values("pk")
        servers = servers.filter(
            Q(name__icontains=word) | Q(serial__icontains=word) | Q(bmc_url__icontains=word) | Q(pk__in=macs)
            | Q(project__name__icontains=word)
        )  # fmt: skip
    page = Paginator(servers, PAGE).get_page(request.GET.get("page"))
    found = {"page": page, "q": q}
    return render_list(request, "servers/inventory.html", "servers/_inventory_found.html", found)


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def server_add(request: HttpRequest) -> HttpResponse:
    """Enters a machine."""
    return _edit(request, Server())


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def server_edit(request: HttpRequest, name: str) -> HttpResponse:
    """Changes what is on record of a machine."""
    return _edit(request, get_object_or_404(Server, name=name))


def _edit(request: HttpRequest, server: Server) -> HttpResponse:
    """The form of a server, or the redirect to its page once everything in it is good and saved."""
    is_new, data = server.pk is None, request.POST if request.method == "POST" else None
    # the form writes into its instance while it checks: the page's title keeps the old name
    title = server.name
    form, nics, disks = ServerForm(data, instance=server), nics_formset(server, data), disks_formset(server, data)
    # each of them, even after a bad one: all mistakes are shown at once
    checked = [part.is_valid() for part in (form, nics, disks) if part is not None]
    if data is not None and all(checked):
        _save(form, nics, disks)
        messages.success(request, f"{server.name} is {'entered' if is_new else 'changed'}.")
        return redirect(server)
    page = {"form": form, "nics": nics, "disks": disks, "title": title, "server": server, "is_new": is_new}
    return render(request, "servers/edit.html", page, status=400 if data is not None else 200)


@transaction.atomic
def _save(form: ServerForm, nics: NicsFormSet, disks: DisksFormSet | None) -> None:
    server = form.save()
    nics.instance = server
    nics.save()
    if disks is not None:
        disks.save(server)
