"""Who searches, as well as a brand's demand needs it: told apart for a day, and never kept as what it was."""

import ipaddress
import re

from fastapi import Request

from discovery.hive import Hive
from discovery.stores.question import Question

from .auth import BrandAccess

SEARCHER_HEADER = "x-searcher-id"
_ID = re.compile(r"[\x21-\x7e]{1,128}")


def note_search(request: Request, hive: Hive, access: BrandAccess, question: Question) -> None:
    """Count a search for the brand's demand. The operator's own do not count, nor does ``explain``."""
    if access.by_operator or question.explain:
        return
    searcher = _page_visitor(request) if access.publishable else _named(request)
    hive.demand.note(access.brand, question.lat, question.lon, question.services, searcher)


def _named(request: Request) -> str | None:
    """A brand's server names its customer by an id of its own making in ``X-Searcher-Id``, if it does."""
    given = request.headers.getlist(SEARCHER_HEADER)
    return "id " + given[0] if len(given) == 1 and _ID.fullmatch(given[0]) else None


def _page_visitor(request: Request) -> str | None:
    """By network address, of IPv6 the network of 64 bits: who is behind one address counts as one, never as more."""
    header = request.app.state.settings.client_address_header
    last = request.headers.get(header, "").rpartition(",")[2].strip() if header else ""
    text = last or (request.client.host if request.client is not None and not header else "")
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return "at " + str(ipaddress.ip_network((address, 64), strict=False) if address.version == 6 else address)
