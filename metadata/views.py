"""What machines ask and say: boot script, rescue files, key, `ready`, `phone-home`, images.

No answer and no log line repeats a token. Errors are one sentence of plain text: somebody reads them on a console.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.http.request import UnreadablePostError
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from images.models import Image, PublicationState
from metadata import rescuefiles, tokens
from metadata.boot import parse_mac, script_for
from metadata.calls import PHONE_HOME_LIMIT, READY_LIMIT, CallRefused, read_phone_home, read_ready
from metadata.models import Boot, Purpose, Target, Token
from metadata.ratelimit import rate_limited
from metadata.sending import send_file
from metadata.signals import machine_called
from metadata.tokens import TokenSpent, TokenUnknown

logger = logging.getLogger(__name__)

Reader = Callable[[bytes], dict[str, Any]]


@require_GET
@rate_limited
@never_cache
def boot(request: HttpRequest, mac: str) -> HttpResponse:
    """The iPXE script for the machine with this MAC address."""
    address = parse_mac(mac)
    if address is None:
        return _say(400, "This is not a MAC address. Write it as aa:bb:cc:dd:ee:ff.")
    try:
        script = script_for(address)
    except rescuefiles.NoRescueSystem as error:
        logger.error("a machine asked for the rescue system: %s", error)
        return _say(503, str(error))
    if script is None:
        return _say(404, "No server in the inventory has this MAC address.")
    return HttpResponse(script, "text/plain")


@require_GET
@rate_limited
def boot_file(request: HttpRequest, name: str) -> HttpResponseBase:
    """A file of the rescue system."""
    try:
        path = rescuefiles.manifest().path(name)
    except rescuefiles.NoRescueSystem as error:
        return _say(503, str(error))
    return _send(request, path)


@require_GET
@rate_limited
@never_cache
def key(request: HttpRequest) -> HttpResponse:
    """The public key that the rescue system is to let in."""
    token = _token_or_refusal(request, Purpose.RESCUE)
    if isinstance(token, HttpResponse):
        return token
    decision = Boot.objects.filter(server=token.server, target=Target.RESCUE, install=token.install).first()
    if decision is None:
        return _say(410, "This install no longer needs the rescue system.")
    return HttpResponse(decision.public_key.strip() + "\n", "text/plain")


@csrf_exempt
@require_POST
@rate_limited
def ready(request: HttpRequest) -> HttpResponse:
    """The rescue system's call: SSH is open, and this is the machine."""
    return _hear(request, "ready", Purpose.RESCUE, READY_LIMIT, read_ready)


@csrf_exempt
@require_POST
@rate_limited
def phone_home(request: HttpRequest) -> HttpResponse:
    """The installed system's call: you can log in now."""
    return _hear(request, "phone-home", Purpose.PHONE_HOME, PHONE_HOME_LIMIT, read_phone_home)


@require_GET
@rate_limited
def image(request: HttpRequest, sha256: str) -> HttpResponseBase:
    """An image's file or its stream, whole or one range of it."""
    token = _token_or_refusal(request, Purpose.FETCH)
    if isinstance(token, HttpResponse):
        return token
    # the file itself, or the stream that was made of it
    it = Q(sha256=sha256) | Q(publication__sha256=sha256, publication__state=PublicationState.DONE)
    mine_or_everybodys = Q(project=None) | Q(project=token.server.project_id)
    found = Image.objects.filter(it, mine_or_everybodys).first()
    name = found.path if found and found.sha256 == sha256 else sha256
    return _send(request, settings.LANDFALL_IMAGES_DIR / name if found else None)


def _hear(request: HttpRequest, call: str, purpose: Purpose, limit: int, read: Reader) -> HttpResponse:
    """Uses the token up and tells who listens, in one transaction: both happen, or the machine calls again."""
    token = _token_or_refusal(request, purpose)
    if isinstance(token, HttpResponse):
        return token
    try:
        body = request.read(limit + 1)
        if len(body) > limit:
            return _say(413, f"The body is too large. At most {limit} bytes are read.")
        payload = read(body)
    except (CallRefused, UnreadablePostError) as error:
        return _say(400, str(error))
    try:
        with transaction.atomic():
            redeemed = tokens.redeem(_bearer(request), purpose)
            machine_called.send(Token, install=redeemed.install, server=redeemed.server, call=call, payload=payload)
    except TokenSpent:
        return _spent()
    except Exception:
        # whatever went wrong above, the machine must not take it for an answer: nothing is stored, it calls again
        logger.exception("the call %s of install %s could not be taken", call, token.install)
        return _say(503, "Landfall could not take the call. Call again.")
    return HttpResponse(status=204)


def _token_or_refusal(request: HttpRequest, purpose: Purpose) -> Token | HttpResponse:
    try:
        return tokens.look(_bearer(request), purpose)
    except TokenUnknown:
        return _say(404, "This token is unknown.")
    except TokenSpent:
        return _spent()


def _bearer(request: HttpRequest) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _send(request: HttpRequest, path: Path | None) -> HttpResponseBase:
    if path is None:
        return _say(404, "There is no such file.")
    try:
        return send_file(request, path)
    except OSError as error:
        logger.error("a file that should be there cannot be sent: %s", error)
        return _say(404, "The file is missing on Landfall's side.")


def _spent() -> HttpResponse:
    return _say(410, "This token was used, or has expired.")


def _say(status: int, sentence: str) -> HttpResponse:
    return HttpResponse(sentence + "\n", "text/plain; charset=utf-8", status)
