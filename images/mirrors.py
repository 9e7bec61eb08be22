"""Where published images are read: mirrors that hold the store's streams as plain files, or Landfall itself."""

from collections.abc import Mapping

from django.conf import settings

from .models import Image, Publication, PublicationState


def publication_of(image: Image) -> Publication | None:
    """The image's stream; None while it has none."""
    found: Publication | None = getattr(image, "publication", None) if image.pk else None
    return found if found and found.state == PublicationState.DONE else None


def own_base() -> str:
    """Landfall's own address of streams; whoever reads there needs an install's token."""
    return f"{settings.LANDFALL_MACHINE_URL}/machine/images"


def bases(private: bool, first: str = "", number: int = 0) -> tuple[str, ...]:
    """The mirrors that have an image's stream, `first` first; none where Landfall itself serves it.

    A mirror asks nobody for a token: what belongs to one project alone is not there. Without a first one the `number`
    says where to begin, so that installs spread.
    """
    there: list[str] = [] if private else settings.LANDFALL_MIRRORS
    start = there.index(first) if first in there else number % max(len(there), 1)
    return (*there[start:], *there[:start])


def least_read(private: bool, readers: Mapping[str, int]) -> str:
    """Of the places that have an image's stream the one with the fewest readers."""
    return min(bases(private) or (own_base(),), key=lambda base: readers.get(base, 0))


def published() -> dict[int, bool]:
    """The images that have a stream, by their key, and whether each belongs to one project alone."""
    done = Publication.objects.filter(state=PublicationState.DONE).values_list("image_id", "image__project_id")
    return {image: project is not None for image, project in done}
