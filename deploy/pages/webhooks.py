"""The webhooks of a project: who is told when an install ends, and what has come of it."""

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import projects_of
from accounts.models import Project
from accounts.secret import Secret
from deploy.webhooks import outbox, signing
from deploy.webhooks.forms import WebhookForm
from deploy.webhooks.models import Delivery, Webhook

from . import person

SHOWN = 50
"""Deliveries on a webhook's page: the latest."""
SOON = timedelta(minutes=2)
"""While a delivery is to be sent this soon, the page looks again by itself."""


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def webhooks(request: HttpRequest, slug: str) -> HttpResponse:
    """The webhooks of a project, and the form that adds one; the answer to it shows the secret, this once."""
    project = _project(request, slug)
    form = WebhookForm(request.POST or None, project=project)
    if request.method == "POST" and form.is_valid():
        secret = signing.new_secret()
        form.instance.secret, form.instance.created_by = secret, person(request)
        return _page(request, form.save(), secret)
    context = {"project": project, "webhooks": _with_counts(project.webhooks.all()), "form": form}
    return render(request, "deploy/webhooks.html", context, status=400 if form.errors else 200)


def _with_counts(webhooks: QuerySet[Webhook]) -> Iterable[Webhook]:
    """Each with what came of its last delivery, and how many wait or were given up: one query."""
    last = Delivery.objects.filter(webhook=OuterRef("pk"), last_at__isnull=False).order_by("-last_at")
    return webhooks.annotate(
        told_at=Subquery(last.values("last_at")[:1]),
        told_error=Subquery(last.values("last_error")[:1]),
        waiting=Count("deliveries", Q(deliveries__next_at__isnull=False)),
        given_up=Count("deliveries", Q(deliveries__given_up_at__isnull=False)),
    ).order_by("created_at", "pk")


@login_required
@require_safe
@never_cache
def webhook(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """One webhook and its last deliveries; to htmx, which looks again while one is on its way, the deliveries alone."""
    return _page(request, _webhook(request, slug, pk))


def _page(request: HttpRequest, webhook: Webhook, secret: Secret | None = None) -> HttpResponse:
    deliveries = list(webhook.deliveries.select_related("install__server")[:SHOWN])
    soon = timezone.now() + SOON
    context = {
        "project": webhook.project,
        "webhook": webhook,
        "deliveries": deliveries,
        "is_busy": webhook.active and any(one.next_at and one.next_at < soon for one in deliveries),
        "secret": secret.reveal() if secret else None,
        "both_sign": webhook.previous_until and webhook.previous_until > timezone.now(),
    }
    fragment = request.htmx and not secret  # type: ignore[attr-defined]  # set by its middleware
    return render(request, "deploy/_deliveries.html" if fragment else "deploy/webhook.html", context)


@login_required
@require_POST
def ping(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Sends a test; what comes of it stands among the deliveries a moment later."""
    webhook = _webhook(request, slug, pk)
    if not webhook.active:
        messages.error(request, "Switch the webhook on first: nothing is sent while it is off.")
    else:
        outbox.ping(webhook, person(request))
    return redirect(webhook)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def secret(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Asks once, then gives the webhook another secret, and shows it, this once; the old one signs on for a day."""
    webhook = _webhook(request, slug, pk)
    if request.method != "POST":
        return render(request, "deploy/webhook_secret.html", {"project": webhook.project, "webhook": webhook})
    fresh = signing.new_secret()
    webhook.previous_secret, webhook.secret = webhook.secret, fresh
    webhook.previous_until = timezone.now() + outbox.OLD_SECRET_SIGNS
    webhook.save(update_fields=["secret", "previous_secret", "previous_until"])
    return _page(request, webhook, fresh)


@login_required
@require_POST
def switch(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Switches the webhook off, or on again. What waits for it meanwhile is sent when it is on."""
    webhook = _webhook(request, slug, pk)
    webhook.active, webhook.switched_off_because = request.POST.get("to") == "on", ""
    webhook.save(update_fields=["active", "switched_off_because"])
    return redirect(webhook)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Asks once, then forgets the webhook and what was told to it."""
    webhook = _webhook(request, slug, pk)
    if request.method == "POST":
        webhook.delete()
        messages.success(request, f"{webhook.url} is deleted, and told nothing more.")
        return redirect("webhooks", slug)
    return render(request, "deploy/webhook_delete.html", {"project": webhook.project, "webhook": webhook})


@login_required
@require_POST
def again(request: HttpRequest, slug: str, pk: int, uuid: UUID) -> HttpResponse:
    """Sends a delivery once more, whatever came of it before."""
    webhook = _webhook(request, slug, pk)
    outbox.again(get_object_or_404(webhook.deliveries, uuid=uuid))
    return redirect(webhook)


def _project(request: HttpRequest, slug: str) -> Project:
    return get_object_or_404(projects_of(request.user), slug=slug)


def _webhook(request: HttpRequest, slug: str, pk: int) -> Webhook:
    """The webhook, when it is one of a project that this person may see."""
    visible = Webhook.objects.filter(project__in=projects_of(request.user)).select_related("project", "created_by")
    return get_object_or_404(visible, project__slug=slug, pk=pk)
