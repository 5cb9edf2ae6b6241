"""The pages that were looked at: each is judged, and photographed if somebody wants the pictures."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

from tests.browser.chromium import Watch, asked

# Controls that a screen reader could not name, and those that only a mouse would reach. Pieces of select2 that stand
# for a labelled field are judged by that field.
UNNAMED = """() => {
  const seen = one => one.checkVisibility({ visibilityProperty: true }) && one.getClientRects().length
    && !one.closest('[aria-hidden=true], .select2-container');
  const named = one => (one.labels && [...one.labels].some(label => label.innerText.trim()))
    || one.getAttribute('aria-label') || one.getAttribute('aria-labelledby') || one.title
    || (one.matches('input[type=submit], input[type=button]') && one.value)
    || (one.matches('a, button') && (one.innerText.trim() || one.querySelector('img[alt]')));
  const controls = [...document.querySelectorAll('input:not([type=hidden]), select, textarea, button, a[href]')];
  return controls.filter(one => seen(one) && !named(one)).map(one => one.outerHTML.slice(0, 200));
}"""


class Album:
    """pictures: a directory for them, or None."""

    def __init__(self, page: Page, watch: Watch, pictures: Path | None) -> None:
        self.page, self.watch, self.pictures = page, watch, pictures
        self._addresses: set[str] = set()
        self._seen: list[str] = []

    @property
    def figures(self) -> dict[str, float]:
        """How much was looked at."""
        return {"pages": len(self._addresses), "looks": len(self._seen)}

    def see(self, name: str) -> None:
        """Look at what is open. AssertionError for anything that may not be."""
        self.page.wait_for_load_state("load")
        self._addresses.add(self.page.url.partition("?")[0])
        self._seen.append(name)
        if self.pictures:
            self.pictures.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=self.pictures / f"{len(self._seen):02}-{name}.png", full_page=True)
        assert not self.watch.complaints, f"{name} ({self.page.url}): {self.watch.complaints}"
        unnamed = asked(self.page, UNNAMED)
        assert not unnamed, f"{name} ({self.page.url}): without a name: {unnamed}"
