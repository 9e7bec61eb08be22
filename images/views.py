"""The catalogue, an image's page, and the licences."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import BooleanField, Count, ExpressionWrapper, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import role_required
from accounts.filters import filters_of, render_list
from accounts.models import Role
from images import catalogue
from images.access import images_of
from images.flavours import FLAVOURS
from images.forms import ImageForm, LicenceForm, SourceForm
from images.found import Found, TokenRefused, discard, fetch
from images.importing import file_name
from images.models import Image, ImageState, Licence
from images.refusal import ImageRefused


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
        "states": [state.value for state in ImageState],
        "filtered": any(filters.values()),
        **filters,
    }
    return render_list(request, "images/images.html", "images/_found.html", page)


@login_required
@require_safe
def image(request: HttpRequest, pk: int) -> HttpResponse:
    """One image: its file, what it becomes, and how its installs went."""
    found = get_object_or_404(catalogue.with_statistics(images_of(request.user)), pk=pk)
    page = {
        "image": found,
        "row": catalogue.row_of(found, timezone.now().date()),
        "flavour": FLAVOURS.get(found.flavour),
        "flavour_title": catalogue.flavour_title(found.flavour),
        "capabilities": catalogue.capabilities_in_words(found.capabilities),
        "days": catalogue.STATISTICS_DAYS,
    }
    return render(request, "images/image.html", page)


@role_required(Role.ADMIN)
@require_http_methods(["GET", "HEAD", "POST"])
def image_add(request: HttpRequest) -> HttpResponse:
    """Fetches a file and shows what is inside; the second step describes it and enters it."""
    if "found" in request.POST:
        return _enter(request)
    form = SourceForm(request.POST or None)
    if request.method != "POST" or not form.is_valid():
        return render(request, "images/add.html", {"form": form}, status=400 if form.is_bound else 200)
    if known := Image.objects.filter(sha256=form.cleaned_data["sha256"]).first():
        return _known(request, known)
    try:
        found = fetch(**form.cleaned_data)
    except ImageRefused as refusal:
        form.add_error("source", str(refusal))
        return render(request, "images/add.html", {"form": form}, status=400)
    flavour = found.likely_flavour
    initial = {"flavour": flavour, "name": catalogue.flavour_title(flavour) if flavour else ""}
    return _describe(request, found, ImageForm(instance=found.image(), initial=initial))


def _enter(request: HttpRequest) -> HttpResponse:
    """The second step: the found file described and entered, or thrown away again."""
    try:
        found = Found.from_token(request.POST["found"])
    except TokenRefused:
        messages.error(request, "That was longer than a day ago, or from somewhere else: begin again.")
        return redirect("image-add")
    if "discard" in request.POST:
        discard(found)
        messages.success(request, f"{file_name(found.source)} is thrown away; nothing was entered.")
        return redirect("images")
    if known := Image.objects.filter(sha256=found.sha256).first():
        return _known(request, known)
    form = ImageForm(request.POST, instance=found.image())
    if not form.is_valid():
        return _describe(request, found, form)
    image = form.save()
    messages.success(request, f"{image} is in the catalogue.")
    return redirect(image)


def _describe(request: HttpRequest, found: Found, form: ImageForm) -> HttpResponse:
    page = {"form": form, "found": found, "capabilities": catalogue.capabilities_in_words(found.capabilities)}
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
