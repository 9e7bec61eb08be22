"""What looks at every request: answers to those who watch Landfall, a name for each request, and its time."""

import ipaddress
import re
import secrets
import time
from collections.abc import Callable
from uuid import uuid4

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotAllowed, HttpResponseNotFound

from . import metrics
from .bound import bound
from .health import readiness

Next = Callable[[HttpRequest], HttpResponseBase]

_FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP")
"""A request with one of these came through a proxy, whatever address it seems to come from."""
_NAME = re.compile(r"[A-Za-z0-9._-]{8,64}")


class Probes:
    """/healthz, /readyz and /metrics. The outermost: who asks calls by an IP address, which is no host of ours."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response
        self.answers = {"/healthz": alive, "/readyz": ready, "/metrics": scrape}

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        answer = self.answers.get(request.path_info)
        if answer is None:
            return self.get_response(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        response = answer(request)
        response["Cache-Control"] = "no-store"
        return response


def alive(request: HttpRequest) -> HttpResponse:
    """The process answers; nothing else is asked."""
    return HttpResponse("alive\n", "text/plain")


def ready(request: HttpRequest) -> HttpResponse:
    """200 when pages can be served; else 503, and why not."""
    report = readiness.report()
    return HttpResponse(f"{report.words}\n", "text/plain; charset=utf-8", 200 if report.ready else 503)


def scrape(request: HttpRequest) -> HttpResponse:
    """The metrics, for those who may read them; for everybody else there is nothing."""
    if not _may_read_metrics(request):
        return HttpResponseNotFound("Not found.\n", content_type="text/plain")
    body, content_type = metrics.scrape(request.headers.get("Accept", ""))
    return HttpResponse(body, content_type)


def _may_read_metrics(request: HttpRequest) -> bool:
    token = settings.LANDFALL_METRICS_TOKEN
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token and secrets.compare_digest(given.encode(), token.encode()):
        return True
    if any(name in request.META for name in _FORWARDED):
        return False
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return False
    return any(address in network for network in settings.LANDFALL_METRICS_FROM)


class Requests:
    """Gives each request a name, which stands in its log lines and in the answer, and measures how long it takes."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        name = _named(request)
        began = time.perf_counter()
        with bound(request=name):
            response = self.get_response(request)
        response["X-Request-ID"] = name
        match = request.resolver_match
        view = match.view_name if match and match.view_name else "none"
        method = request.method if request.method in ("GET", "HEAD", "POST") else "other"
        metrics.REQUESTS.labels(view, method, response.status_code).observe(time.perf_counter() - began)
        return response


def _named(request: HttpRequest) -> str:
    """The name that the proxy in front has given it, so that both logs agree; else a fresh one."""
    given = request.headers.get("X-Request-ID", "")
    return given if _NAME.fullmatch(given) else uuid4().hex
