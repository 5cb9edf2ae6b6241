"""From the one-time password of the first start to a file that came back: everything a person does, in a browser."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from playwright.sync_api import Locator, Page

from tests.browser import secondfactor
from tests.browser.album import Album
from tests.browser.chromium import Look, asked, window
from tests.browser.words import Words
from tests.proofs.stack import Console

PASSWORD = "a console for the night shift"
FILE, CHANGED = "invoice-0042.txt", b"paid on Monday\n"
STORAGE, REPOSITORY, SOURCE, SCHEDULE = "backup disk", "main", "shared files", "every night"
REASON = "INC-1042: the invoice was overwritten"
MANY_STOPS = 100  # of the tabulator, on any page
DONE_WITHIN = 120.0  # seconds for the console to finish a backup or a recovery
SMALL_FILES, BULK = 40_000, 768 << 20  # so that a backup takes several looks at its progress


# The share that a bar shows and all words around it; null when no work is going on.
TOLD = """() => {
  const box = document.querySelector('#progress'), bar = box && box.querySelector('[role=progressbar]');
  return bar && [bar.getAttribute('aria-valuenow'), box.innerText];
}"""


@dataclass
class Journey:
    """A console of its own at `place`, and somebody with a browser who sees it for the first time."""

    look: Look
    place: Path
    pictures: Path | None = None
    console: Console = field(init=False)
    page: Page = field(init=False)
    album: Album = field(init=False)

    def __post_init__(self) -> None:
        self.say = Words(self.look.language)
        self.data, self.storage, self.back = (self.place / name for name in ("shared", "storage", "back"))

    def prove(self) -> dict[str, float]:
        """Walk all the way; figures. AssertionError for whatever is not as it has to be."""
        begun = time.monotonic()
        plant(self.data)
        with Console(self.place / "console", {"AIHUB_RECOVERY_ROOTS": str(self.place)}) as self.console:
            address = self.console.client.address
            with window(self.look, address) as (self.page, watch):
                self.album = Album(self.page, watch, self.pictures and self.pictures / self.look.name)
                self._walk()
        return {**self.album.figures, "seconds": round(time.monotonic() - begun, 1)}

    def _walk(self) -> None:
        self.sign_in_for_the_first_time()
        self.add_a_second_factor()
        self.add_a_storage()
        self.add_a_repository_and_prove_its_kit()
        self.add_a_source()
        self.add_a_schedule()
        self.back_up()
        self.change_a_file_and_back_up_again()
        self.look_inside()
        self.recover_the_file()
        self.visit_every_list()

    # signing in

    def sign_in_for_the_first_time(self) -> None:
        """With the password that was shown at the first start, which has to be changed at once."""
        self.page.goto("/")
        self.see("sign-in")
        account = self.console.account
        self._log_in(account["name"], account["password"])
        self.see("choose-a-password")
        for name, value in (("Old password", account["password"]), ("New password", PASSWORD),
                            ("New password confirmation", PASSWORD)):  # fmt: skip
            self._field(name).fill(value)
        self._press("Change password")
        self.see("password-changed")
        self._go("Overview")
        self.see("overview-of-nothing")

    def add_a_second_factor(self) -> None:
        """An authenticator app, and the way in with it."""
        self._menu("Second factor")
        self.see("second-factor")
        self._link("Activate").click()
        self.see("the-same-person")
        self._field("Password").fill(PASSWORD)
        self._press("Confirm")
        secret = self._field("Authenticator secret").input_value()
        self.see("second-factor-secret")
        self._field("Authenticator code").fill(secondfactor.code(secret))
        self._press("Activate")
        self.see("second-factor-active")
        self.page.goto("/admin/")
        self._open_menu()
        self.see("menu")
        self._press("Log out")
        self.see("signed-out")
        self.page.goto("/")
        self._log_in(self.console.account["name"], PASSWORD)
        self.see("second-factor-asked")
        secondfactor.wait_for_another()
        self._field("Code").fill(secondfactor.code(secret))
        self._press("Sign In")
        self.page.wait_for_url("**/admin/")

    def _log_in(self, name: str, password: str) -> None:
        self._field("Username").fill(name)
        self._field("Password").fill(password)
        self._press("Log in")

    # what is protected, and where it goes

    def add_a_storage(self) -> None:
        """A directory, tried out before anything is stored."""
        self._go("Storages")
        self.see("no-storage")
        self._link("Add the first one").click()
        self.see("storage-kinds")
        self._link("Local directory").click()
        self._field("Name").fill(STORAGE)
        self._field("Directory").fill(str(self.storage))
        self._press("Test connection")
        self._shown("It was reached")
        self.see("storage-form")
        self._press("Add")
        self._named(STORAGE)
        self.see("storage")

    def add_a_repository_and_prove_its_kit(self) -> None:
        """The kit is shown once; the code that was printed is typed."""
        self._go("Repositories")
        self._link("Add the first one").click()
        self._field("Name").fill(REPOSITORY)
        self._field("Storage").select_option(label=STORAGE)
        self.see("repository-form")
        self._press("Add")
        kit = self.page.locator("pre.kit").inner_text()
        code = re.search(rf"{self.say('Recovery code')}\s+(\S+)", kit)
        assert code, f"no code in the kit: {kit}"
        self.see("kit")
        self._field("The printed recovery code").fill(code[1])
        self._press("Prove it")
        self._named(REPOSITORY)
        self.see("repository")

    def add_a_source(self) -> None:
        """The directory; by keyboard alone from the choice of the kind on."""
        self._go("Sources")  # one is there already: the console protects itself since there is a repository
        self._add()
        self.see("source-kinds")
        self._type(self._link("Files and directories"), "\n")
        self._field("Name").wait_for()
        self._type(self._field("Name"), SOURCE)
        self._type(self._field("Paths"), str(self.data))
        self.see("source-form")
        self._type(self._button("Add"), "\n")
        self._named(SOURCE)
        self.see("source")

    def add_a_schedule(self) -> None:
        """Every night."""
        self._go("Schedules")
        self.see("schedule-of-the-console")
        self._add()
        self._field("Name").fill(SCHEDULE)
        self._field("Type").select_option("files")
        self._field("Cron expression").fill("0 2 * * *")
        self.see("schedule-form")
        self._press("Save")
        self._shown(SCHEDULE)
        self.see("schedules")
        self._link(SCHEDULE).first.click()
        self.see("schedule")

    # backups

    def back_up(self) -> None:
        """“Back up now”, and the work watched to its end."""
        self._go("Sources")
        self._link(SOURCE).click()
        self._press("Back up now")
        self._watch("backup-running")
        self.see("backup")

    def change_a_file_and_back_up_again(self) -> None:
        """A second version of one file."""
        self._file.write_bytes(CHANGED)
        self._go("Sources")
        self._link(SOURCE).click()
        self.see("source-with-a-backup")
        self._press("Back up now")
        self._watch("")

    def _watch(self, picture: str) -> None:
        """What a person sees until the end, every fraction of a second."""
        self.page.locator("#progress").wait_for()
        seen, end = Seen(self.say), time.monotonic() + DONE_WITHIN
        while (alive := seen.looked(self.page)) is not None:
            assert time.monotonic() < end, "the work does not end"
            if alive and picture:
                self.see(picture)
                picture = ""
            time.sleep(0.1)
        assert not picture, "nobody saw the work going on"
        self.page.wait_for_load_state("networkidle")
        self._shown("completed")

    # inside, and back

    def look_inside(self) -> None:
        """The directory, a file by its name, its versions, what changed."""
        self._tab("Contents")
        self.see("contents")
        self._field("Find below this directory").fill("invoice-0042")
        self._press("Find")
        self.see("found")
        self._tab("Compare")
        self._shown(FILE)
        self.see("compared")
        self._tab("Log")
        self.see("log")
        self._tab("Contents")
        self._field("Find below this directory").fill("invoice-0042*")
        self._press("Find")
        self._link("versions").click()
        self.see("versions")

    def recover_the_file(self) -> None:
        """Its first version, to a new place: what, where, check."""
        self._link("Recover this one…").last.click()
        self._field("A new place: a directory that does not exist yet").fill(str(self.back))
        self._field("Reason, for the audit log").fill(REASON)
        self.see("recovery-form")
        self._press("Check")
        self._shown("3. Check and run")
        self.see("recovery-checked")
        self._press("Recover to the new place")
        self._watch("")
        self.see("recovery")
        found = [path for path in self.back.rglob("*") if path.is_file()]
        assert [path.name for path in found] == [FILE], f"came back: {found}"
        assert found[0].read_bytes() == first_version(), "other bytes came back"

    def visit_every_list(self) -> None:
        """Every page the sidebar leads to."""
        links = self.page.locator("#nav-sidebar a[href^='/admin/']")
        for address in dict.fromkeys(links.evaluate_all("links => links.map(link => link.getAttribute('href'))")):
            self.page.goto(address)
            self.see("list" + address.removeprefix("/admin").rstrip("/").replace("/", "-"))

    # hands and eyes

    @property
    def _file(self) -> Path:
        return self.data / "accounts" / FILE

    def see(self, name: str) -> None:
        """A page that is looked at."""
        self.album.see(name)

    def _field(self, label: str) -> Locator:
        """By its label, as it is read out."""
        words = self.say(label).replace("(", "[(]").replace(")", "[)]")
        return self.page.get_by_label(re.compile(rf"^\s*{words}\s*[:：]?\s*\*?\s*$", re.IGNORECASE))

    def _press(self, words: str) -> None:
        self._button(words).click()

    def _button(self, words: str) -> Locator:
        return self.page.get_by_role("button", name=self.say(words), exact=True)

    def _type(self, wanted: Locator, text: str) -> None:
        """With the tabulator as far as to it, then the text; a line's end presses it."""
        for _ in range(MANY_STOPS):
            self.page.keyboard.press("Tab")
            if wanted.evaluate("one => one === document.activeElement"):
                self.page.keyboard.type(text)
                return
        raise AssertionError(f"the keyboard does not reach {wanted}")

    def _link(self, words: str) -> Locator:
        return self.page.locator("#main, #content, #page").get_by_role("link", name=self.say(words))

    def _tab(self, words: str) -> None:
        self.page.locator("nav.views").get_by_role("link", name=self.say(words), exact=True).click()

    def _add(self) -> None:
        self.page.locator("#header-inner a[href*='/add/']").click()

    def _go(self, words: str) -> None:
        self.page.locator("#nav-sidebar").get_by_role("link", name=self.say(words), exact=True).click()

    def _open_menu(self) -> None:
        self.page.get_by_role("button", name=self.console.account["name"]).click()
        self.page.get_by_role("button", name=self.say("Log out"), exact=True).wait_for()
        self.page.wait_for_timeout(300)  # it fades in

    def _menu(self, words: str) -> None:
        self._open_menu()
        self.page.get_by_role("link", name=self.say(words), exact=True).click()

    def _shown(self, words: str) -> None:
        self.page.get_by_text(self.say(words)).first.wait_for()

    def _named(self, name: str) -> None:
        self.page.get_by_role("heading", name=name).first.wait_for()


@dataclass
class Seen:
    """What was seen of work that goes on. It may never look finished before it is, and always shows that it lives."""

    say: Words

    def looked(self, page: Page) -> bool | None:
        """Was a worker seen at it? None when no work goes on. AssertionError for 100 % or no sign of life."""
        told = asked(page, TOLD)
        if told is None:
            return None
        share, text = told
        assert share is None or int(share) <= 99, f"{share} % before the end"
        assert self.say("You can close this page; the work continues.") in text
        waiting, reported = self.say("No worker has taken it yet."), self.say("The worker reported %(seconds)d s ago.")
        alive = re.search(re.escape(reported).replace(re.escape("%(seconds)d"), r"\d+"), text)
        assert alive or waiting in text, f"no sign of life: {text}"
        return bool(alive)


def first_version() -> bytes:
    """What the file held at first."""
    return Random(42).randbytes(4096)


def plant(data: Path) -> None:
    """Many small files, something large, and the one that will be looked for."""
    numbers = Random(7)
    for folder in range(100):
        place = data / "archive" / f"{folder:03}"
        place.mkdir(parents=True)
        for name in range(SMALL_FILES // 100):
            (place / f"note-{name:04}.txt").write_bytes(numbers.randbytes(200))
    (data / "models").mkdir()
    with (data / "models" / "weights.bin").open("wb") as file:
        for _ in range(BULK >> 20):
            file.write(numbers.randbytes(1 << 20))
    (data / "accounts").mkdir()
    for number in range(40, 50):
        (data / "accounts" / f"invoice-{number:04}.txt").write_bytes(Random(number).randbytes(4096))
