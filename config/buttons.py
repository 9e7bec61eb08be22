"""What a person is told who opens an address that only a button leads to: after a login, or by a bookmark."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import render
from django.urls import Resolver404, resolve


class ButtonsOnly:
    """Middleware: a browser gets a page with the refusal of its GET. Programs get the status alone."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        in_a_browser = request.method == "GET" and "text/html" in request.headers.get("accept", "")
        if response.status_code != 405 or not in_a_browser:
            return response
        page = render(request, "405.html", {"above": _above(request.path)}, status=405)
        page["Allow"] = response["Allow"]
        return page


def _above(path: str) -> str:
    """The page that has the button: one level up; the servers where there is none."""
    above = path.rstrip("/").rpartition("/")[0] + "/"
    try:
        resolve(above)
    except Resolver404:
        return "/"
    return above
