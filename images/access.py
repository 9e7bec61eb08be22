"""Who may see which images."""

from django.contrib.auth.models import AnonymousUser
from django.db.models import Q, QuerySet

from accounts.access import projects_of
from accounts.models import User

from .models import Image, ImageState


def images_of(user: User | AnonymousUser) -> QuerySet[Image]:
    """The images that a person may see: customers those offered to them, ops retired ones as well, admins all."""
    images = Image.objects.select_related("licence", "project")
    if not isinstance(user, User):
        return images.none()
    if user.is_admin:
        return images
    if user.is_ops:
        return images.exclude(state=ImageState.CANDIDATE)
    return images.filter(Q(project=None) | Q(project__in=projects_of(user)), state=ImageState.OFFERED)
