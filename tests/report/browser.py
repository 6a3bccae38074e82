"""A headless Chromium, spoken to by its DevTools protocol over enough of a WebSocket."""

import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path
from urllib.request import urlopen

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 20.0  # seconds for a browser to start, and for each answer


def found():
    """The path of a browser, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A browser with one page. errors: what its console and its network complained of."""

    def __init__(self, folder):
        self.process = subprocess.Popen(
            [
                found(), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
                f"--user-data-dir={folder}", "--no-first-run", "--disable-dev-shm-usage",
                "--hide-scrollbars", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        port = int(self._wait(Path(folder) / "DevToolsActivePort"))
        with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE) as answer:
            page = next(each for each in json.load(answer) if each["type"] == "page")
        self.socket = _opened(page["webSocketDebuggerUrl"])
        self.number, self.errors = 0, []
        for domain in ("Runtime", "Log", "Page", "Network"):
            self.ask(f"{domain}.enable")

    def _wait(self, path):
        """The first line of a file that the browser writes."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if path.exists() and (lines := path.read_text().splitlines()):
                return lines[0]
            time.sleep(0.05)
        raise TimeoutError("the browser does not start")

    def ask(self, method, **parameters):
        """The result of a command; events that come before it are looked at."""
        self.number += 1
        _send(self.socket, json.dumps(
            {"id": self.number, "method": method, "params": parameters}
        ))  # fmt: skip
        while True:
            said = json.loads(_received(self.socket))
            if said.get("id") == self.number:
                assert "error" not in said, said
                return said["result"]
            self._note(said)

    def _note(self, said):
        told = said.get("params", {})
        match said.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(told["exceptionDetails"])
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "warning", "assert"):
                self.errors.append(told["args"])
            case "Log.entryAdded":
                self.errors.append(told["entry"])
            case "Network.requestWillBeSent":
                if not told["request"]["url"].startswith(("file:", "data:")):
                    self.errors.append(told["request"]["url"])

    def run(self, expression):
        """The value of a JavaScript expression in the page."""
        given = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        said = self.ask("Runtime.evaluate", **given)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def open(self, path, width=1440, height=900, dark=False):
        """Show a file, once it is drawn."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.ask("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Page.navigate", url=Path(path).resolve().as_uri())
        self.run("new Promise(done => document.readyState === 'complete' ? done() : "
                 "addEventListener('load', () => done()))")  # fmt: skip
        self.frame()

    def frame(self):
        """Wait until what changed is drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")

    def picture(self, path, whole=True):
        """Write a PNG of the page, or of what is seen of it."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def close(self):
        """End the browser."""
        self.socket.close()
        self.process.terminate()
        self.process.wait(PATIENCE)


def _opened(address):
    """A WebSocket to an address of this machine."""
    host, _, path = address.removeprefix("ws://").partition("/")
    name, _, port = host.partition(":")
    link = socket.create_connection((name, int(port)), PATIENCE)
    key = base64.b64encode(os.urandom(16)).decode()
    link.sendall(
        f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += _exactly(link, 1)
    assert b" 101 " in answer, answer
    return link


def _send(link, text):
    """Send a text, masked as clients do."""
    content, mask = text.encode(), os.urandom(4)
    size = len(content)
    head = struct.pack("!BB", 0x81, 0x80 | size) if size < 126 else (
        struct.pack("!BBH", 0x81, 0x80 | 126, size) if size < 65536
        else struct.pack("!BBQ", 0x81, 0x80 | 127, size)
    )  # fmt: skip
    link.sendall(head + mask + bytes(c ^ mask[i % 4] for i, c in enumerate(content)))


def _received(link):
    """The next text, put together from its frames."""
    content = b""
    while True:
        first, second = _exactly(link, 2)
        size = second & 0x7F
        if size > 125:
            long = size == 127
            (size,) = struct.unpack("!Q" if long else "!H", _exactly(link, 8 if long else 2))
        piece = _exactly(link, size)
        if first & 0x0F in (0, 1):
            content += piece
            if first & 0x80:
                return content.decode()


def _exactly(link, size):
    content = bytearray()
    while len(content) < size:
        piece = link.recv(size - len(content))
        assert piece, "the browser closed the connection"
        content += piece
    return bytes(content)
