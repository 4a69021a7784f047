"""Notices of a metadata server on loopback, which answers as Google's does."""

import queue
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from segnext_jax.parallel import maintenance


class Metadata:
    """Values of an instance, for which a request waits until they change."""

    def __init__(self):
        self.values = {"maintenance-event": "NONE", "preempted": "FALSE"}
        self.errors = 0  # requests that fail, first
        self.changed = threading.Condition()
        self.asked = threading.Semaphore(0)  # once for every request that waits

    def set(self, key, value):
        with self.changed:
            self.values[key] = value
            self.changed.notify_all()

    def wait_for_requests(self):
        for _ in self.values:
            assert self.asked.acquire(timeout=10)

    def get(self, key, query):
        assert query["wait_for_change"] == ["true"]
        with self.changed:
            if query["last_etag"] != ["0"]:
                self.asked.release()
            self.changed.wait_for(lambda: query["last_etag"] != [self.values[key]], 10)
            return self.values[key]


@pytest.fixture
def metadata(monkeypatch):
    metadata = Metadata()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.headers["Metadata-Flavor"] == "Google"
            url = urllib.parse.urlsplit(self.path)
            folder, _, key = url.path.rpartition("/")
            assert folder == "/computeMetadata/v1/instance"
            if metadata.errors:
                metadata.errors -= 1
                self.send_error(503)
                return
            value = metadata.get(key, urllib.parse.parse_qs(url.query))
            self.send_response(200)
            self.send_header("ETag", value)
            self.end_headers()
            self.wfile.write(value.encode())

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{server.server_port}")
    monkeypatch.setattr(maintenance, "_PAUSE_S", 0.1)
    yield metadata
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE"),
        ("preempted", "TRUE"),
    ],
)
def test_notice_is_told(metadata, key, value):
    metadata.errors = 3
    notices = queue.Queue()
    with maintenance.watching(notices.put):
        metadata.wait_for_requests()
        assert notices.empty()
        metadata.set(key, value)
        assert notices.get(timeout=10) == f"{key} is {value}"


def test_migration_and_old_notices_do_not_stop_a_run(metadata):
    metadata.set("preempted", "TRUE")
    notices = queue.Queue()
    with maintenance.watching(notices.put):
        metadata.wait_for_requests()
        metadata.set("maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE")
        assert metadata.asked.acquire(timeout=10)  # it was read, and the next awaited
        assert notices.empty()


def test_nobody_is_asked_on_other_machines(monkeypatch, tmp_path):
    monkeypatch.delenv("GCE_METADATA_HOST", raising=False)
    monkeypatch.setattr(maintenance, "_PRODUCT", tmp_path / "none")
    before = threading.active_count()
    with maintenance.watching(print):
        assert threading.active_count() == before
    (tmp_path / "none").write_text("Google Compute Engine\n")
    assert maintenance._is_on_google()
