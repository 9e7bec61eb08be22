"""What a list's address asks for."""

from django.http import HttpRequest

LONGEST = 100


def filters_of(request: HttpRequest, *names: str) -> dict[str, str]:
    """The filters in the address by name, empty where there is none; without what no text of ours contains.

    A NUL, above all, is legal in an address and makes PostgreSQL refuse the query.
    """
    return {name: _clean(request.GET.get(name, "")) for name in names}


def _clean(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text).strip()[:LONGEST]
