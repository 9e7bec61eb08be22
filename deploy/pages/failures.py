"""The catalogue of failures as a page: what a code means, whose it is, and what to do."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from deploy import errors


@login_required
@require_safe
def failures(request: HttpRequest) -> HttpResponse:
    """Every failure that there is, under the headings of the catalogue; no query."""
    return render(request, "deploy/failures.html", {"chapters": errors.CHAPTERS})
