"""Lists whose address holds their filter."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django_htmx.middleware import HtmxDetails

LONGEST = 100


def filters_of(request: HttpRequest, *names: str) -> dict[str, str]:
    """The filters in the address by name, empty where there is none; without what no text of ours contains.

    A NUL, above all, is legal in an address and makes PostgreSQL refuse the query.
    """
    return {name: _clean(request.GET.get(name, "")) for name in names}


def _clean(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text).strip()[:LONGEST]


def render_list(request: HttpRequest, page: str, found: str, context: dict[str, Any]) -> HttpResponse:
    """The page; to htmx, which asks while somebody types, only the part with what was found."""
    htmx: HtmxDetails = request.htmx  # type: ignore[attr-defined]  # set by its middleware
    response = render(request, found if htmx else page, context)
    # the same address gives the one or the other: a cache must not mix them up
    patch_vary_headers(response, ["HX-Request"])
    return response
