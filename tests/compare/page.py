"""The operator's page in a real browser: first paint with 400 institutions and 300 rounds, how long an event takes to
show, and what a dashboard with ten open pages takes.

    python tests/compare/page.py [EVENTS]

It builds the programs, and needs Debian's chromium and chromium-driver. The large page is written by a test of the
coordinator and served from here with its own style sheet; the other figures are of a real coordinator and dashboard.
"""

import functools
import http.server
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
OPENINGS = 9
PAGES = 10


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Browser:
    def __init__(self, profile):
        self.port = free_port()
        self.driver = subprocess.Popen(["chromedriver", f"--port={self.port}"], stdout=subprocess.DEVNULL)
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                     "--disable-background-networking", "--disable-component-update", "--disable-sync",
                     f"--user-data-dir={profile}", "--window-size=1440,900"]
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}}
        for _ in range(100):
            try:
                self.session = self.call("/session", wanted)["sessionId"]
                return
            except OSError:
                time.sleep(0.1)
        sys.exit("chromedriver does not start")

    def call(self, path, body):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request))["value"]

    def open(self, address):
        self.call(f"/session/{self.session}/url", {"url": address})

    def run(self, script):
        return self.call(f"/session/{self.session}/execute/sync", {"script": script, "args": []})

    def end(self):
        self.driver.terminate()
        self.driver.wait()


def shown(name, values, unit):
    print(f"{name}: {statistics.median(values):.0f} {unit} ({min(values):.0f} to {max(values):.0f})", flush=True)


def first_paint(browser, folder):
    command = ["cargo", "test", "-q", "--workspace", "--lib", "--", "--ignored", "--nocapture", "the_large_page_is_written"]
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    page = said[said.index("<!DOCTYPE html>"):said.index("</html>") + 7]
    (folder / "index.html").write_text(page, encoding="utf-8")
    for name in ["style.css", "script.js"]:
        (folder / name).write_bytes((ROOT / "shared/page/src" / name).read_bytes())
    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"the page of the run: {len(page.encode())} bytes")
    paints = []
    for number in range(OPENINGS):
        browser.open(f"http://127.0.0.1:{server.server_port}/?{number}")
        paint = None
        while paint is None:
            paint = browser.run("const [e] = performance.getEntriesByName('first-contentful-paint');"
                                "return e ? e.startTime : null")
        paints.append(paint)
    server.shutdown()
    shown("first paint", paints, "ms")


class Quiet(http.server.SimpleHTTPRequestHandler):
    # Pages of the program are given a folder by their own address; here it is the root.
    def log_message(self, *_):
        pass

    def translate_path(self, path):
        name = path.split("?")[0].rsplit("/", 1)[-1] or "index.html"
        return str(pathlib.Path(self.directory) / name)


def coordinator(folder, *arguments):
    return [str(TARGET / "debug/fedner-coordinator"), "--dir", str(folder), *arguments]


def latency(browser, folder, events):
    subprocess.run(["cargo", "build", "-q", "--workspace", "--bins"], cwd=ROOT, check=True)
    init = coordinator(folder, "init", "--name", "page", "--address", f"127.0.0.1:{free_port()}")
    subprocess.run(init, check=True, capture_output=True)
    serving = subprocess.Popen(coordinator(folder, "serve"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    serving.stdout.readline()
    page = subprocess.Popen(coordinator(folder, "dashboard"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        browser.open(page.stdout.readline().strip())
        # When each word first stands on the page.
        browser.run("window.seen = {}; new MutationObserver(() => { for (const word of document.body.innerText.matchAll("
                    "/guest-\\d+-x/g)) window.seen[word[0]] ??= Date.now(); })"
                    ".observe(document.body, {childList: true, subtree: true, characterData: true})")
        for number in range(events):
            name = f"guest-{number}-x"
            subprocess.run(coordinator(folder, "invite", name), check=True, capture_output=True)
            deadline = time.monotonic() + 20
            while not browser.run(f"return window.seen['{name}'] || null"):
                assert time.monotonic() < deadline, f"{name} never shows"
                time.sleep(0.02)
        seen = browser.run("return window.seen")
        waits = [seen[name] - at for name, at in recorded(folder).items() if name in seen]
        shown("an event on the page", waits, "ms")
        address = browser.run("return location.href").split("#")[0]
        # Ten pages: this one, and nine listeners as a page is one.
        listeners = [urllib.request.urlopen(address + "live") for _ in range(PAGES - 1)]
        for _ in range(PAGES):
            urllib.request.urlopen(address).read()
        status = pathlib.Path(f"/proc/{page.pid}/status").read_text()
        memory = int(status.split("VmRSS:")[1].split()[0]) / 1024
        print(f"memory of the dashboard with {PAGES} open pages: {memory:.0f} MiB")
        del listeners
    finally:
        for process in [page, serving]:
            process.terminate()
            process.wait()


def recorded(folder):
    """When each invite was recorded, in milliseconds: the store says."""
    import sqlite3
    store = sqlite3.connect(f"file:{folder}/state.sqlite?mode=ro", uri=True)
    times = {}
    for (text,) in store.execute("select entry from events"):
        entry = json.loads(text)
        if entry["event"].get("kind") == "invite_written":
            times[entry["event"]["institution"]] = entry["time"]
    return times


def main():
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        browser = Browser(scratch / "profile")
        try:
            (scratch / "large").mkdir()
            first_paint(browser, scratch / "large")
            latency(browser, scratch / "coordinator", events)
        finally:
            browser.end()


main()
