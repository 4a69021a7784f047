"""Notices of Google Compute Engine that a machine is about to stop.

After "Query metadata server for maintenance event notices" and "Spot VMs" in the
documentation of Compute Engine.
"""

import contextlib
import os
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import logging

_HOST_VARIABLE = "GCE_METADATA_HOST"  # as in Google's own libraries
_HOST = "metadata.google.internal"
_PRODUCT = Path("/sys/class/dmi/id/product_name")
# Key → how a value begins that means a stop. A migration is only a pause.
_KEYS = {"maintenance-event": "TERMINATE", "preempted": "TRUE"}
_WAIT_S = 60  # for a change, by the server
_PAUSE_S = 10  # after an error


@contextlib.contextmanager
def watching(on_notice: Callable[[str], None]) -> Iterator[None]:
    """Calls `on_notice(notice)`, in another thread, for notices that come inside.

    Only on machines of Google, or where the variable GCE_METADATA_HOST names a server.
    One that was there before is only reported: it may have stopped the run that this
    one resumes, long before the machine stops.
    """
    host = os.environ.get(_HOST_VARIABLE) or (_HOST if _is_on_google() else None)
    is_over = threading.Event()
    for key in _KEYS if host else ():
        url = f"http://{host}/computeMetadata/v1/instance/{key}"
        arguments = key, url, on_notice, is_over
        threading.Thread(target=_watch, args=arguments, daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _is_on_google() -> bool:
    return _PRODUCT.exists() and _PRODUCT.read_text().startswith("Google")


def _watch(
    key: str, url: str, on_notice: Callable[[str], None], is_over: threading.Event
) -> None:
    value, etag = "", "0"  # at once, whatever the value
    while not is_over.is_set():
        try:
            before, (value, etag) = value, _read(url, etag)
        except OSError as error:
            logging.log_first_n(
                logging.WARNING, "No notice of maintenance from %s: %s", 1, url, error
            )
            is_over.wait(_PAUSE_S)
            continue
        if value == before or not value.startswith(_KEYS[key]):
            continue
        if before:
            on_notice(f"{key} is {value}")
        else:
            logging.warning("This machine is about to stop: %s is %s.", key, value)


def _read(url: str, etag: str) -> tuple[str, str]:
    """The value, once it is not that of `etag`; and its own."""
    query = f"?wait_for_change=true&timeout_sec={_WAIT_S}&last_etag={etag}"
    request = urllib.request.Request(url + query, headers={"Metadata-Flavor": "Google"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=2 * _WAIT_S) as response:
        return response.read().decode().strip(), response.headers["ETag"]
