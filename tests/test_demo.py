"""demo.py in a browser."""

import io
import os
import re
import select
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from playwright import sync_api as playwright
from random_checkpoint import NAMES, PALETTE, write_random_checkpoint

from configs import common
from data.evaluation import plan_batches, stack_batch
from segnext_jax.parallel.mesh import make_mesh
from segnext_jax.training.predictor import load_predictor

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# pip cannot install a browser; .ci/run does.
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

_QUIET_BROWSER = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    "--disable-sync",
]
WAIT_MS = 300_000  # for a program to compile on a busy machine


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    write_random_checkpoint(str(workdir))
    return workdir


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photos") / "street.png"
    blocks = np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)
    Image.fromarray(blocks.repeat(8, 0).repeat(8, 1)).save(path)
    return path


@pytest.fixture(scope="module")
def address(checkpoint, tmp_path_factory):
    """Of a page that runs, for photos of at most 0.01 megapixels."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one_device = "--xla_force_host_platform_device_count=1"
    command = [sys.executable, "demo.py", f"--checkpoint={checkpoint}"]
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {one_device}",
        "GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("uploads")),
        "no_proxy": "127.0.0.1",
    }
    with subprocess.Popen(
        [*command, f"--port={port}", "--max_megapixels=0.01"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout
            is_ready, *_ = select.select([server.stdout], [], [], WAIT_MS / 1000)
            line = server.stdout.readline() if is_ready else ""
            found = re.match(r"Open (http://127\.0\.0\.1:\d+/) in a browser", line)
            assert found, f"demo.py said {line!r}"
            yield found[1]
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=_QUIET_BROWSER)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The page; whatever it asks of other hosts fails the test."""
    page = browser.new_page()
    page.set_default_timeout(WAIT_MS)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    yield page
    page.close()
    assert [
        url for url in asked if not url.startswith((address, "data:", "blob:"))
    ] == []


def upload(page, path):
    page.wait_for_selector("input[type=file]", state="attached")
    page.set_input_files("input[type=file]", path)


@pytest.fixture(scope="module")
def pred(checkpoint, photo):
    """What predict.py would write."""
    mesh = make_mesh(jax.devices()[:1])
    predictor = load_predictor(str(checkpoint), common.complete, mesh)
    image, config = np.asarray(Image.open(photo)), predictor.eval_config
    ((bucket, indices),) = plan_batches(np.array([image.shape[:2]]), config, 1)
    batch = stack_batch([image], None, indices, bucket, config, rows=1)
    return predictor.segmenter(predictor.variables, batch, bucket.shape)[0]


def shown_image(page):
    """The overlay as the browser has it, float [h w 3]."""
    handle = page.wait_for_selector(".image-frame img, .image-container img")
    pixels = handle.evaluate(
        """async (img) => {
            await img.decode();
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [img.naturalWidth, img.naturalHeight];
            const context = canvas.getContext("2d");
            context.drawImage(img, 0, 0);
            const {data} = context.getImageData(0, 0, canvas.width, canvas.height);
            return [canvas.height, canvas.width, Array.from(data)];
        }"""
    )
    height, width, values = pixels
    return np.array(values, float).reshape(height, width, 4)[..., :3]


def test_photo_gets_its_overlay_and_shares(page, photo, pred):
    upload(page, photo)
    page.wait_for_selector(".shares tr")
    rows = page.locator(".shares tr").all_inner_texts()
    shares = {
        name.strip(): share.strip() for name, share, *_ in (r.split("\t") for r in rows)
    }
    counts = np.bincount(pred.ravel(), minlength=len(NAMES))
    assert (counts > 0).sum() > 1
    assert shares == {
        NAMES[i]: f"{100 * counts[i] / pred.size:.2f} %" for i in np.flatnonzero(counts)
    }
    swatches = page.locator(".shares i").evaluate_all(
        "all => all.map(i => getComputedStyle(i).backgroundColor)"
    )
    order = np.argsort(-counts, kind="stable")[: len(swatches)]
    assert swatches == ["rgb({}, {}, {})".format(*PALETTE[i]) for i in order]

    colours = np.array(PALETTE, np.uint8)[pred]
    blend = np.rint(np.add(Image.open(photo), colours, dtype=float) / 2)
    assert np.abs(shown_image(page) - as_jpeg(blend)).mean() < 1

    before = page.locator(".image-frame img, .image-container img").get_attribute("src")
    slider = page.locator("input[type=range]")
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 1, box["y"] + box["height"] / 2)
    page.wait_for_function(
        """before => document.querySelector(".image-frame img, .image-container img")
            .getAttribute("src") != before""",
        arg=before,
    )
    assert np.abs(shown_image(page) - as_jpeg(colours)).mean() < 1


def as_jpeg(picture):
    file = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(file, "jpeg")
    return np.asarray(Image.open(file), float)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no image", "street.jpg: not a readable image"),
        ((150, 100), "street.jpg has 0.015 megapixels, and this page takes up to 0.01"),
    ],
)
def test_unusable_photo_is_named(page, tmp_path, content, message):
    path = tmp_path / "street.jpg"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        Image.new("RGB", content).save(path)
    upload(page, path)
    toast = page.wait_for_selector(".toast-body")
    assert message in toast.inner_text()
    assert str(tmp_path) not in toast.inner_text()
    assert page.locator(".shares").count() == 0
