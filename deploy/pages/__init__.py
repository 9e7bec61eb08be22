"""The pages about installs: what is drawn from the rows, and the few buttons that append to them."""

from django.http import HttpRequest

from accounts.models import User


def person(request: HttpRequest) -> User:
    """Who asks; for views that only somebody who is logged in can reach."""
    assert isinstance(request.user, User), "the view lacks login_required"
    return request.user
