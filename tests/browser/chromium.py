"""A person's browser: Debian's Chromium, watched for everything that no page of the console may do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Error, Page, Request, Response, sync_playwright

PROGRAM = PACKAGE = "chromium"
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
WIDE, HIGH = 1280, 860
PATIENCE = 30_000.0  # milliseconds for whatever a page has to show
REPLACED = 5  # times that a page may go away under a question
GIVEN_UP = "net::ERR_ABORTED"  # a question about progress that was under way when the person went to another page
INSIDE = frozenset({"data", "blob", "about"})  # schemes that reach nobody


@dataclass(frozen=True)
class Look:
    """A language of the console and a colour scheme, as the person's system says them."""

    name: str
    language: str
    locale: str
    scheme: Literal["dark", "light"]


ENGLISH = Look("english-light", "en", "en-GB", "light")
CHINESE = Look("chinese-dark", "zh-hans", "zh-CN", "dark")


@dataclass
class Watch:
    """What went wrong in a window so far. address: the console's; everything else is another host."""

    address: str
    complaints: list[str] = field(default_factory=list)

    def over(self, page: Page) -> None:
        """Listen to the page and to all that it loads."""
        page.on("console", self._said)
        page.on("pageerror", self._broke)
        page.on("request", self._asked)
        page.on("response", self._answered)
        page.on("requestfailed", self._failed)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"console {message.type}: {message.text} ({message.location.get('url', '')})")

    def _broke(self, error: Error) -> None:
        self.complaints.append(f"script: {error}")

    def _asked(self, request: Request) -> None:
        where = urlsplit(request.url)
        if where.scheme not in INSIDE and f"{where.scheme}://{where.netloc}" != self.address:
            self.complaints.append(f"another host: {request.url}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status}: {response.request.method} {response.url}")

    def _failed(self, request: Request) -> None:
        if request.failure != GIVEN_UP:
            self.complaints.append(f"{request.failure}: {request.method} {request.url}")


def asked(page: Page, script: str) -> Any:
    """What the script finds on the page. One that is just being replaced: what it finds on the next."""
    for _ in range(REPLACED):
        try:
            return page.evaluate(script)
        except Error as error:
            if "context was destroyed" not in str(error):
                raise
            page.wait_for_load_state()
    raise AssertionError(f"{page.url} is replaced again and again")


@contextmanager
def window(look: Look, address: str) -> Iterator[tuple[Page, Watch]]:
    """A fresh window of a person with this language and scheme; nothing is remembered from one to the next."""
    program = shutil.which(PROGRAM)
    assert program, f"{PROGRAM} is not installed (apt-get install {PACKAGE})"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            context = browser.new_context(
                base_url=address, locale=look.locale, color_scheme=look.scheme, timezone_id="UTC",
                viewport={"width": WIDE, "height": HIGH}, reduced_motion="reduce",
            )  # fmt: skip
            context.set_default_timeout(PATIENCE)
            page, watch = context.new_page(), Watch(address)
            watch.over(page)
            yield page, watch
        finally:
            browser.close()
