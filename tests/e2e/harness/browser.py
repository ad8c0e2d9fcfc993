"""A real browser: headless Chromium, driven through its own DevTools protocol. Its microphone is a
file."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import aiohttp

START_TIMEOUT_S = 30
COMMAND_TIMEOUT_S = 30
STOP_TIMEOUT_S = 10


def program() -> str:
    """DRAGOMAN_CHROMIUM, or the one that Debian's package installs."""
    found = os.environ.get("DRAGOMAN_CHROMIUM") or shutil.which("chromium")
    if not found:
        raise FileNotFoundError("no chromium here: run 'scripts/setup.sh test'")
    return found


class Browser:
    """async with Browser(profile, microphone=wav) as browser:
    page = await browser.open("http://127.0.0.1:8080/")
    """

    def __init__(self, profile: Path, *, microphone: Path | None) -> None:
        self._profile = profile
        # Without a sandbox, since tests may run as root; it loads our own page alone.
        self._command = [
            program(),
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--remote-debugging-port=0", f"--user-data-dir={profile}"),
            *("--disable-background-networking", "--disable-component-update"),
            *("--disable-dev-shm-usage", "--allow-loopback-in-peer-connection"),
            "--use-fake-device-for-media-stream",
        ]
        if microphone:
            self._command += [
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-audio-capture={microphone}%noloop",
            ]
        else:
            self._command.append("--use-fake-ui-for-media-stream=deny")
        self._command.append("about:blank")

    async def __aenter__(self) -> Browser:
        self._log = (self._profile / "chromium.log").open("wb")
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=asyncio.subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        self._session = aiohttp.ClientSession()
        self._pages: list[Page] = []
        try:
            self._url = await asyncio.wait_for(self._wait_for_port(), START_TIMEOUT_S)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_) -> None:
        for page in self._pages:
            await page.close()
        await self._session.close()
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._log.close()

    async def _wait_for_port(self) -> str:
        announced = self._profile / "DevToolsActivePort"
        while True:
            if self._process.returncode is not None:
                raise RuntimeError(f"chromium ended at start; see {self._log.name}")
            if announced.exists() and (lines := announced.read_text().split()):
                return f"http://127.0.0.1:{lines[0]}"
            await asyncio.sleep(0.05)

    async def open(self, url: str, *, script: str = "") -> Page:
        """A new tab; `script` runs in it before any of the page's own."""
        async with self._session.put(f"{self._url}/json/new?about:blank") as answer:
            target = await answer.json(content_type=None)
        socket = await self._session.ws_connect(
            target["webSocketDebuggerUrl"], max_msg_size=64 * 1024 * 1024
        )
        page = Page(socket)
        self._pages.append(page)
        await page.send("Runtime.enable")
        await page.send("Page.enable")
        if script:
            await page.send("Page.addScriptToEvaluateOnNewDocument", source=script)
        await page.send("Page.navigate", url=url)
        await page.wait_for("document.readyState === 'complete'")
        return page


# What an audio element plays, as a file. One recording at a time.
RECORD = """
((selector) => {
  const recorder = new MediaRecorder(document.querySelector(selector).captureStream());
  const chunks = [];
  recorder.ondataavailable = ({ data }) => chunks.push(data);
  recorder.start(500);
  window.recorded = () => new Promise((resolve) => {
    recorder.onstop = () => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result.split(",")[1]);
      reader.readAsDataURL(new Blob(chunks));
    };
    recorder.stop();
  });
})
"""
# Resolves once an audio element has played nothing audible for a while.
QUIET = """
((selector, looks) => new Promise((resolve) => {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  const audio = document.querySelector(selector);
  context.createMediaStreamSource(audio.srcObject).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  let quiet = 0;
  const look = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    quiet = samples.some((sample) => Math.abs(sample) > 0.01) ? 0 : quiet + 1;
    if (quiet === looks) { clearInterval(look); context.close(); resolve(); }
  }, 50);
}))
"""
LOOKS_PER_S = 20


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        # What went wrong in the page: exceptions, console errors, violations of its policy.
        self.errors: list[str] = []
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future] = {}
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            body = json.loads(message.data)
            waiting = self._waiting.pop(body.get("id"), None)
            if waiting and not waiting.done():
                waiting.set_result(body)
            if body.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(body["params"]["exceptionDetails"]))
            if body.get("method") == "Runtime.consoleAPICalled" and (
                body["params"]["type"] == "error"
            ):
                self.errors.append(json.dumps(body["params"]["args"]))

    async def send(self, method: str, **parameters) -> dict:
        number = next(self._ids)
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        body = await asyncio.wait_for(waiting, COMMAND_TIMEOUT_S)
        if "error" in body:
            raise RuntimeError(f"{method}: {body['error']}")
        return body["result"]

    async def evaluate(self, expression: str):
        """The value of a JavaScript expression; a promise is awaited."""
        result = await self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    async def wait_for(self, expression: str, *, timeout_s: float = 30):
        """The first truthy value of an expression."""

        async def search():
            while not (value := await self.evaluate(expression)):
                await asyncio.sleep(0.1)
            return value

        try:
            return await asyncio.wait_for(search(), timeout_s)
        except TimeoutError:
            text = await self.evaluate("document.body.innerText")
            raise TimeoutError(f"never true: {expression}; the page says: {text!r}") from None

    async def click(self, selector: str) -> None:
        """A real click in the middle of an element."""
        x, y = await self.evaluate(
            f"(() => {{ const element = document.querySelector({json.dumps(selector)});"
            " element.scrollIntoView({ block: 'center' });"
            " const box = element.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.send(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )

    async def type(self, selector: str, text: str) -> None:
        """Replaces what an input holds."""
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).select()")
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.send("Input.insertText", text=text)

    async def choose(self, selector: str, value: str) -> None:
        """Picks an option of a select by its value."""
        chosen = await self.evaluate(
            f"(() => {{ const select = document.querySelector({json.dumps(selector)});"
            f" select.value = {json.dumps(value)};"
            " select.dispatchEvent(new Event('change', { bubbles: true }));"
            " return select.value; })()"
        )
        assert chosen == value, f"{selector} has no option {value!r}"

    async def press(self, key: str, code: int) -> None:
        """A key that is no letter, by its DOM name and its Windows key code."""
        for kind in ("keyDown", "keyUp"):
            await self.send(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    async def record(self, selector: str) -> None:
        """Records what an audio element plays from now on."""
        await self.evaluate(f"{RECORD}({json.dumps(selector)})")

    async def recorded(self) -> bytes:
        """Ends the recording and gives it as WebM."""
        return base64.b64decode(await self.evaluate("window.recorded()"))

    async def hear_out(self, selector: str, *, quiet_s: float = 1.5) -> None:
        """Waits until what an audio element plays has been quiet for a while."""
        await self.evaluate(f"{QUIET}({json.dumps(selector)}, {int(quiet_s * LOOKS_PER_S)})")

    async def look(self, *, width: int, height: int, dark: bool = False) -> None:
        """Size of the window and the colours that its user prefers."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self, path: Path) -> None:
        picture = await self.send("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(picture["data"]))

    async def close(self) -> None:
        self._reader.cancel()
        await self._socket.close()
