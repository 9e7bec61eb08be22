"""The page on which a server's reinstall is put together, reviewed and confirmed."""

from dataclasses import dataclass, replace
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts.forms import SSHKeyForm
from accounts.models import SSHKey
from deploy import actions
from deploy.actions import Preview, Refused
from deploy.context import unseen_image
from deploy.events import LIVE
from deploy.models import Install
from deploy.passphrase import SHORTEST
from images.flavours import FLAVOURS
from images.formats import choices
from images.models import Image, ImageState
from metadata.documents import MOST_USER_DATA
from servers.access import servers_of
from servers.models import Server

from . import person
from .checked import Checked, check, first_draft, is_over, reviewed, user_data_words
from .draft import CUSTOM, OWN, Draft, Section, take
from .layouts import SWAPS, LayoutChoice, beginning, custom, erase_words, text_of


@dataclass(slots=True)
class Desk:
    """One visit to the page: the server, what can be chosen for it, and the draft so far."""

    request: HttpRequest
    server: Server
    images: list[Image]
    keys: list[SSHKey]
    draft: Draft

    @classmethod
    def of(cls, request: HttpRequest, name: str) -> "Desk":
        """The desk for a server that this person may see; else there is no such page."""
        server = get_object_or_404(servers_of(request.user).prefetch_related("disks", "nics"), name=name)
        own = Q(project=None) | Q(project=server.project_id)
        images = list(Image.objects.filter(own, state=ImageState.OFFERED).select_related("licence"))
        keys = list(server.project.ssh_keys.all())
        kept = request.session.get(_place(server))
        draft = Draft.from_json(kept) if kept else first_draft(server, keys, images)
        return cls(request, server, images, keys, draft)

    def save(self) -> None:
        """Keeps the draft for the next visit."""
        self.request.session[_place(self.server)] = self.draft.to_json()

    def clear(self) -> None:
        """Forgets the draft."""
        self.request.session.pop(_place(self.server), None)

    def checked(self) -> Checked:
        """What the draft means now."""
        return check(self.draft, self.server, self.images, self.keys)

    def custom(self) -> LayoutChoice:
        """The layout that is being written."""
        return custom(self.draft, self.server.facts(), self.image())

    def image(self) -> Image | None:
        """The image that is chosen, as plans want it: in place of one's own, that of its flavour."""
        if self.draft.image == OWN:
            return unseen_image(self.draft.own.flavour)
        return next((one for one in self.images if str(one.pk) == self.draft.image), None)

    def running(self) -> Install | None:
        """The install that keeps the server busy."""
        return self.server.installs.filter(status__in=LIVE).first()

    def go(self, section: Section) -> HttpResponse:
        """Keeps the draft, and opens a section."""
        self.save()
        return redirect(f"{self.request.path}?{urlencode({'step': section.value})}#{section.value}")


def _place(server: Server) -> str:
    return f"reinstall.{server.pk}"


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def reinstall(request: HttpRequest, name: str) -> HttpResponse:
    """The four sections, one of them open. A POST takes what the open one says and goes where its button leads."""
    desk = Desk.of(request, name)
    if request.method != "POST":
        return _page(desk, _open(desk, request.GET.get("step", "")))
    section = _section(request.POST.get("section", "")) or Section.IMAGE
    desk.draft = take(desk.draft, section, request.POST, request.FILES)
    button = request.POST.get("go", "")
    if button == "erase":
        return _erase(desk)
    if button == "add-key":
        return _add_key(desk) or desk.go(Section.ACCESS)
    if button.startswith("begin:"):
        return _begin(desk, button.removeprefix("begin:"))
    if (other := _section(button)) is not None:
        return desk.go(other)
    return _next(desk, section)


@login_required
@never_cache
@require_POST
def custom_layout(request: HttpRequest, name: str) -> HttpResponse:
    """The layout as it is being written: its drawing and notes, or what is wrong with it and where. Keeps the draft."""
    desk = Desk.of(request, name)
    desk.draft = take(desk.draft, Section.DISKS, request.POST, request.FILES)
    desk.save()
    return render(request, "deploy/_custom_drawing.html", {"choice": desk.custom()})


def _begin(desk: Desk, name: str) -> HttpResponse:
    """Puts a named layout into the text to go on from, or `back` what was there before; what is there is kept too."""
    draft = desk.draft
    text = draft.custom_before if name == "back" else beginning(name, draft, desk.server.facts(), desk.image())
    before = draft.custom if draft.custom and draft.custom.strip() != text.strip() else draft.custom_before
    desk.draft = replace(draft, layout=CUSTOM, custom=text, custom_before=before)
    return desk.go(Section.DISKS)


def _section(name: str) -> Section | None:
    return Section(name) if name in set(Section) else None


def _open(desk: Desk, wanted: str) -> Section:
    """The section to open: the wanted one, but none that lies behind one that is not good yet."""
    checked = desk.checked()
    unfinished = next(
        (one for one in list(Section)[:-1] if one.value not in desk.draft.done or not checked.is_good(one)),
        Section.REVIEW,
    )
    order = list(Section)
    asked = _section(wanted) or unfinished
    return min(asked, unfinished, key=order.index)


def _next(desk: Desk, section: Section) -> HttpResponse:
    """On to the next section, when all is well in this one; else it stays open and says what is wrong."""
    if section is Section.ACCESS and desk.draft.key_line and (refused := _add_key(desk)):
        return refused
    # what is secret in it is not on the page: what is wrong is kept too
    desk.save()
    if not desk.checked().is_good(section):
        return _page(desk, section, show_errors=True)
    desk.draft = desk.draft.confirmed(section)
    desk.save()
    return desk.go(_open(desk, section.next.value))


def _add_key(desk: Desk) -> HttpResponse | None:
    """Adds the pasted key to the project and chooses it; a page that says why where it cannot."""
    form = SSHKeyForm({"public_key": desk.draft.key_line, "name": desk.draft.key_name}, project=desk.server.project)
    if not form.is_valid():
        errors = {_KEY_FIELDS[field]: " ".join(str(one) for one in those) for field, those in form.errors.items()}
        return _page(desk, Section.ACCESS, show_errors=True, more_errors=errors)
    key = form.save()
    desk.keys.append(key)
    desk.draft = replace(desk.draft, keys=(*desk.draft.keys, str(key.pk)), key_line="", key_name="")
    messages.success(desk.request, f"{key.name} is now a key of {desk.server.project}, and chosen below.")
    return None


_KEY_FIELDS = {"public_key": "key_line", "name": "key_name", "__all__": "key_line"}


def _erase(desk: Desk) -> HttpResponse:
    """Asks for the install, when what is confirmed is what was shown and the name was typed."""
    post, server = desk.request.POST, desk.server
    checked = desk.checked()
    if running := desk.running():
        return _page(desk, Section.REVIEW, refused=_busy(server), running=running)
    if (unfinished := _open(desk, Section.REVIEW.value)) is not Section.REVIEW:
        early = Refused("Not everything is chosen yet.", "Go on from the section that is open below.")
        return _page(desk, unfinished, show_errors=True, refused=early)
    if post.get("reviewed") != reviewed(checked, server, desk.draft):
        changed = Refused(
            "What you confirmed is not what would be installed now: it was changed, perhaps in another window.",
            "Look through the review again, then confirm it.", status=409,
        )  # fmt: skip
        return _page(desk, Section.REVIEW, refused=changed)
    if post.get("confirm", "").strip().lower() != server.name.lower():
        return _page(desk, Section.REVIEW, more_errors={"confirm": f"Type {server.name} to confirm that it is meant."})
    try:
        install = actions.request_install(checked.request(server, desk.draft), person(desk.request))
    except Refused as refused:
        return _page(desk, Section.REVIEW, refused=refused, running=desk.running())
    desk.clear()
    return redirect(install)


def _busy(server: Server) -> Refused:
    return Refused(f"{server.name} is being installed already.", "Watch that install, or cancel it first.", status=409)


def _page(
    desk: Desk,
    section: Section,
    *,
    show_errors: bool = False,
    more_errors: dict[str, str] | None = None,
    refused: Refused | None = None,
    running: Install | None = None,
) -> HttpResponse:
    """The page with a section open; its status is 200 unless it says what is wrong."""
    checked = desk.checked()
    preview: Preview | None = None
    running = running or desk.running()
    if section is Section.REVIEW and not running and not refused:
        try:
            preview = actions.preview(checked.request(desk.server, desk.draft))
        except Refused as error:
            refused = error
    errors = {**(checked.errors.get(section, {}) if show_errors else {}), **(more_errors or {})}
    context: dict[str, Any] = {
        "server": desk.server,
        "draft": desk.draft,
        "checked": checked,
        "open": section.value,
        "errors": errors,
        "refused": refused,
        "running": running,
        "preview": preview,
        "reviewed": reviewed(checked, desk.server, desk.draft),
        "images": [one for one in desk.images if not is_over(one)],
        "over": [one for one in desk.images if is_over(one)],
        "formats": choices(),
        "flavours": sorted(FLAVOURS.values(), key=lambda one: one.title),
        "keys": desk.keys,
        "disks": desk.server.facts().disks,
        "custom_text": text_of(desk.draft, desk.server.facts(), desk.image()),
        "questions": checked.questions(desk.draft),
        "erase_words": erase_words(desk.server.facts()),
        "shortest_passphrase": SHORTEST,
        "swaps": SWAPS,
        "user_data_words": user_data_words(desk.draft),
        "most_user_data": MOST_USER_DATA,
    }
    status = refused.status if refused and desk.request.method == "POST" else 400 if errors else 200
    return render(desk.request, "deploy/reinstall.html", context, status=status)
