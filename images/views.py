"""The catalogue, an image's page, and the licences."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import BooleanField, Count, ExpressionWrapper, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh
from django_htmx.middleware import HtmxDetails

from accounts.access import role_required
from accounts.filters import filters_of, render_list
from accounts.models import Role, User
from images import catalogue, imports
from images.access import images_of
from images.flavours import FLAVOURS
from images.forms import ImageForm, LicenceForm, SourceForm
from images.found import Found, TokenRefused, discard, fetch
from images.importing import file_name
from images.life import life
from images.models import Image, ImageState, Import, ImportState, Licence, Publication, PublicationState
from images.publishing.publish import ask
from images.refusal import ImageRefused
from images.store import is_url


@login_required
@require_safe
def images(request: HttpRequest) -> HttpResponse:
    """The catalogue: every image that one may see, by family and version."""
    filters = filters_of(request, "q", "state")
    found = list(catalogue.find(catalogue.with_statistics(images_of(request.user)), **filters))
    page = {
        "families": catalogue.families(found, timezone.now().date()),
        "count": len(found),
        "days": catalogue.STATISTICS_DAYS,
        "states": [state.value for state in ImageState if state != ImageState.OWN],
        "filtered": any(filters.values()),
        "imports": list(Import.objects.defer("url")) if _is_admin(request) else [],
        **filters,
    }
    return render_list(request, "images/images.html", "images/_found.html", page)


@login_required
@require_safe
def image(request: HttpRequest, pk: int) -> HttpResponse:
    """One image: its file, what it becomes, and how its installs went."""
    found = get_object_or_404(catalogue.with_statistics(images_of(request.user)), pk=pk)
    if _is_htmx(request):
        return _mirror(request, found)
    page = {
        "image": found,
        "row": catalogue.row_of(found, timezone.now().date()),
        "flavour": FLAVOURS.get(found.flavour),
        "flavour_title": catalogue.flavour_title(found.flavour),
        "capabilities": catalogue.capabilities_in_words(found.capabilities),
        "said": catalogue.said_in_words(found.capabilities),
        "questions": catalogue.questions(found),
        "days": catalogue.STATISTICS_DAYS,
    }
    return render(request, "images/image.html", page)


def _mirror(request: HttpRequest, image: Image) -> HttpResponse:
    """How far the image is on its way to the mirror; the whole page anew once that is over."""
    publication = Publication.objects.filter(image=image).first()
    if publication and publication.is_under_way and isinstance(request.user, User) and request.user.is_ops:
        return render(request, "images/_mirror.html", {"image": image})
    return HttpResponseClientRefresh()


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def image_add(request: HttpRequest) -> HttpResponse:
    """Fetches a file and shows what is inside; the second step describes it and enters it."""
    if "found" in request.POST:
        return _enter(request)
    form = SourceForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        return render(request, "images/add.html", {"form": form}, status=400 if form.is_bound else 200)
    if known := Image.objects.filter(sha256=form.cleaned_data["checksum"].removeprefix("sha256:")).first():
        return _known(request, known)
    if is_url(form.cleaned_data["source"]):
        by = request.user.get_username()
        return redirect(imports.ask(form.cleaned_data["source"], form.cleaned_data["checksum"], by))
    try:
        found = fetch(**form.cleaned_data)
    except ImageRefused as refusal:
        form.add_error("source", str(refusal))
        return render(request, "images/add.html", {"form": form}, status=400)
    return _describe(request, found, _first_form(found))


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def image_import(request: HttpRequest, pk: int) -> HttpResponse:
    """A file on its way: how far it is, why it was refused, or, once it is here, what is inside."""
    row = get_object_or_404(Import, pk=pk)
    if request.method == "POST":
        imports.take_back(row)
        messages.success(request, f"{file_name(row.shown_url)} is forgotten; nothing was entered.")
        return redirect("images")
    if row.state == ImportState.FOUND and not _is_htmx(request):
        found = Found(**row.found)
        if known := Image.objects.filter(sha256=found.sha256).first():
            imports.settled(found)
            return _known(request, known)
        return _describe(request, found, _first_form(found))
    page = {"row": row, "file_name": file_name(row.shown_url)}
    if not _is_htmx(request):
        return render(request, "images/import.html", page)
    return render(request, "images/_import.html", page) if row.is_under_way else HttpResponseClientRefresh()


def _is_htmx(request: HttpRequest) -> bool:
    htmx: HtmxDetails = request.htmx  # type: ignore[attr-defined]  # set by its middleware
    return bool(htmx)


def _is_admin(request: HttpRequest) -> bool:
    return isinstance(request.user, User) and request.user.is_admin


def _first_form(found: Found) -> ImageForm:
    """The form that describes a found file, with what its name or its system speaks of."""
    flavour = found.likely_flavour
    initial: dict[str, Any] = {"flavour": flavour}
    if flavour:
        initial |= {"name": FLAVOURS[flavour].title, "end_of_life": FLAVOURS[flavour].end_of_life}
    return ImageForm(instance=found.image(), initial=initial)


def _enter(request: HttpRequest) -> HttpResponse:
    """The second step: the found file described and entered, or thrown away again."""
    try:
        found = Found.from_token(request.POST["found"])
    except TokenRefused:
        messages.error(request, "That was longer than a day ago, or from somewhere else: begin again.")
        return redirect("image-add")
    if "discard" in request.POST:
        discard(found)
        imports.settled(found)
        messages.success(request, f"{file_name(found.source)} is thrown away; nothing was entered.")
        return redirect("images")
    if known := Image.objects.filter(sha256=found.sha256).first():
        return _known(request, known)
    form = ImageForm(request.POST, instance=found.image())
    if not form.is_valid():
        return _describe(request, found, form)
    image = form.save()
    imports.settled(found)
    messages.success(request, f"{image} is in the catalogue.")
    return redirect(image)


def _describe(request: HttpRequest, found: Found, form: ImageForm) -> HttpResponse:
    flavour = FLAVOURS.get(found.likely_flavour)
    page = {
        "form": form,
        "found": found,
        "capabilities": catalogue.capabilities_in_words(found.capabilities),
        "flavour": flavour,
        "ends": life(flavour.end_of_life if flavour else None, timezone.now().date()),
    }
    return render(request, "images/describe.html", page, status=400 if form.is_bound else 200)


def _known(request: HttpRequest, image: Image) -> HttpResponse:
    messages.warning(request, f"This file is in the catalogue already: this is it, as {image}.")
    return redirect(image)


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def image_edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Changes what people say of an image."""
    found = get_object_or_404(Image, pk=pk)
    title, form = found.name, ImageForm(request.POST or None, instance=found)
    if request.method == "POST" and form.is_valid():
        messages.success(request, f"{form.save()} is changed.")
        return redirect(found)
    page = {"image": found, "title": title, "form": form}
    return render(request, "images/edit.html", page, status=400 if form.is_bound else 200)


@role_required(Role.ADMIN)
@require_POST
def image_state(request: HttpRequest, pk: int) -> HttpResponse:
    """Offers an image to customers, or retires it."""
    found = get_object_or_404(Image, pk=pk)
    state = request.POST.get("state", "")
    if state not in (ImageState.OFFERED, ImageState.RETIRED):
        messages.error(request, "An image can be offered or retired: use the buttons on this page.")
        return redirect(found)
    Image.objects.filter(pk=pk).update(state=state)
    what = "is offered to customers now" if state == ImageState.OFFERED else "is retired: nobody can choose it any more"
    messages.success(request, f"{found.name} {what}.")
    return redirect(found)


@role_required(Role.ADMIN)
@require_POST
def image_publish(request: HttpRequest, pk: int) -> HttpResponse:
    """Asks for the image to be turned into what mirrors serve: a thread of a web process does it."""
    found = get_object_or_404(Image, pk=pk)
    publication = ask(found, request.user.get_username())
    if publication.state == PublicationState.RUNNING:
        messages.warning(request, f"{found.name} is being published already.")
    else:
        messages.success(
            request, f"{found.name} is queued: it is published as soon as nothing else is, which takes some minutes."
        )
    return redirect(found)


@role_required(Role.ADMIN)
@require_safe
def licences(request: HttpRequest) -> HttpResponse:
    """Every licence, and whether its key is stored: the keys themselves stay closed."""
    has_key = ExpressionWrapper(~Q(activation_key=""), output_field=BooleanField())
    found = Licence.objects.annotate(image_count=Count("images"), has_key=has_key).defer("activation_key")
    return render(request, "images/licences.html", {"licences": found})


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def licence_add(request: HttpRequest) -> HttpResponse:
    """Enters a licence."""
    return _edit_licence(request, Licence())


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def licence_edit(request: HttpRequest, pk: int) -> HttpResponse:
    """Changes a licence; a new key takes the place of the stored one."""
    return _edit_licence(request, get_object_or_404(Licence, pk=pk))


def _edit_licence(request: HttpRequest, licence: Licence) -> HttpResponse:
    title, is_new = licence.name, licence.pk is None
    form = LicenceForm(request.POST or None, instance=licence)
    if request.method == "POST" and form.is_valid():
        messages.success(request, f"{form.save()} is {'added' if is_new else 'changed'}.")
        return redirect("licences")
    page = {"form": form, "title": title, "is_new": is_new}
    return render(request, "images/licence.html", page, status=400 if form.is_bound else 200)
