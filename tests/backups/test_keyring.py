"""Who holds a way into a repository, through the console: listed, added, proven, changed, removed, renewed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure, Invalid, Refused
from aihub_backup.core.keys import KeyRing
from aihub_backup.core.models import AuditEvent
from backups import engine
from backups.engine.stores.local import LocalStore
from backups.models import BackupState, Repository, RepositoryState, Source
from backups.services import adopting, backups, keyring, repositories, running, sources
from backups.services.adopting import Key
from backups.services.recovery_kits import RecoveryKit
from tests.backups import stories

ANN = Key("keyfile", b"the keyfile that Ann keeps in a drawer")


def labels(repository: Repository) -> list[str]:
    return sorted(slot.label for slot in keyring.look(repository).slots)


def opens(repository: Repository, secret: Key) -> bool:
    place = LocalStore(repository.storage.options["path"])
    known = {"recovery": engine.Secret.recovery_code, "keyfile": engine.Secret.keyfile}
    try:
        engine.Repository.open(place, known[secret.kind](secret.value))  # type: ignore[operator]
    except engine.EngineError:
        return False
    return True


def handle(repository: Repository, label: str) -> str:
    return next(slot.handle for slot in keyring.look(repository).slots if slot.label == label)


def backed_up(source: Source, by: Actor) -> str:
    made = backups.request("full", by=by, sources=[source])
    stories.work()
    return backups.get(made.pk).state


def test_it_tells_who_has_a_way_in(repository: Repository) -> None:
    ways = keyring.look(repository)

    assert [(slot.kind, slot.label, slot.ours, slot.works) for slot in sorted(ways.slots, key=lambda s: s.label)] == [
        ("keyfile", "application", True, True), ("recovery", "recovery kit", False, True),
    ]  # fmt: skip
    assert (ways.epoch, ways.packs) == (1, 0)


def test_a_further_secret_opens_it_and_the_audit_says_whose(repository: Repository, by: Actor) -> None:
    keyring.add(repository, ANN, "Ann", by=by)

    assert opens(repository, ANN)
    event = AuditEvent.objects.get(action="repository.key.add")
    assert (event.actor_name, event.facts["label"], event.facts["kind"]) == ("olivia", "Ann", "keyfile")
    assert "drawer" not in str(list(AuditEvent.objects.values()))


def test_a_new_printed_code_opens_nothing_until_it_was_typed(repository: Repository, by: Actor) -> None:
    kit = keyring.draw(repository, by=by)
    before = opens(repository, Key("recovery", kit.code))

    keyring.add(repository, Key("recovery", kit.code), "the safe", by=by)

    assert (before, opens(repository, Key("recovery", kit.code))) == (False, True)
    assert kit.code in kit.text and f"{kit.made:%Y-%m-%d}" in kit.text
    repository.refresh_from_db()
    assert repository.kit_proven_at is not None
    assert kit.code not in str(list(AuditEvent.objects.values()))


def test_a_mistyped_code_is_refused_and_changes_nothing(repository: Repository, by: Actor) -> None:
    code = keyring.draw(repository, by=by).code

    with pytest.raises(Refused, match="typing error") as caught:
        keyring.add(repository, Key("recovery", code[:-1] + ("0" if code[-1] != "0" else "1")), "the safe", by=by)

    assert caught.value.code == "wrong-secret"
    assert labels(repository) == ["application", "recovery kit"]


def test_the_paper_is_replaced(kit: RecoveryKit, by: Actor) -> None:
    repository = kit.repository
    repositories.prove_kit(repository, kit.code, by=by)
    keyring.add(repository, ANN, "Ann", by=by)
    for name in ("recovery kit", handle(repository, "recovery kit"), handle(repository, "recovery kit")[:6]):
        with pytest.raises(Refused, match="the last printed code"):
            keyring.remove(repository, name, reason="lost", by=by)
    fresh = keyring.draw(repository, by=by)
    keyring.add(repository, Key("recovery", fresh.code), "the safe", by=by)

    keyring.remove(repository, handle(repository, "recovery kit"), reason="lost", by=by)

    assert [opens(repository, Key("recovery", code)) for code in (kit.code, fresh.code)] == [False, True]
    repository.refresh_from_db()
    assert repository.kit_proven_at is not None
    assert AuditEvent.objects.get(action="repository.key.remove").facts["reason"] == "lost"


def test_when_the_newest_paper_goes_the_older_one_is_to_be_proven(kit: RecoveryKit, by: Actor) -> None:
    repository = kit.repository
    fresh = keyring.draw(repository, by=by)
    keyring.add(repository, Key("recovery", fresh.code), "the safe", by=by)

    keyring.remove(repository, handle(repository, "the safe"), reason="burnt", by=by)

    repository.refresh_from_db()
    assert repository.kit_proven_at is None


def test_the_last_two_and_our_own_stay(repository: Repository, by: Actor) -> None:
    with pytest.raises(Refused, match="a repository keeps at least 2") as caught:
        keyring.remove(repository, handle(repository, "recovery kit"), reason="lost", by=by)
    keyring.add(repository, ANN, "Ann", by=by)
    with pytest.raises(Refused, match="the one that the repository is open through"):
        keyring.remove(repository, handle(repository, "application"), reason="old", by=by)

    assert caught.value.code == "not-possible"
    assert labels(repository) == ["Ann", "application", "recovery kit"]


def test_a_secret_is_changed_by_whoever_knows_the_old_one(repository: Repository, by: Actor) -> None:
    bob = Key("keyfile", b"the keyfile that Bob keeps in a drawer")
    keyring.add(repository, ANN, "Ann", by=by)

    keyring.change(repository, ANN, bob, by=by)

    assert [opens(repository, one) for one in (ANN, bob)] == [False, True]
    with pytest.raises(Refused) as caught:
        keyring.change(repository, ANN, bob, by=by)
    assert caught.value.code == "wrong-secret"


def test_new_keys_are_for_all_that_comes_and_backups_go_on(source: Source, repository: Repository, by: Actor) -> None:
    backed_up(source, by)

    rotated = keyring.rotate(repository, reason="a laptop was stolen", by=by)
    state = backed_up(source, by)

    ways = keyring.look(repository)
    assert (rotated.epoch, ways.epoch, state) == (2, 2, BackupState.COMPLETED)
    assert ways.packs >= 2 and ways.bytes > 0
    assert AuditEvent.objects.get(action="repository.key.rotate").facts["epoch"] == 2
    repository.refresh_from_db()
    assert repository.state == RepositoryState.OK


def test_our_own_keyfile_is_renewed_while_it_can_be_read(source: Source, repository: Repository, by: Actor) -> None:
    old = Key("keyfile", base64.b64decode(repository.secrets["keyfile"]))

    keyring.renew_own(repository, by=by)

    assert not opens(repository, old)
    assert backed_up(source, by) == BackupState.COMPLETED
    assert labels(repository) == ["application", "recovery kit"]


def test_with_the_application_key_lost_the_paper_opens_it_and_we_get_a_new_keyfile(
    kit: RecoveryKit, data: Path, by: Actor, settings: Settings
) -> None:
    repositories.prove_kit(kit.repository, kit.code, by=by)
    source = sources.create("docs", "files", {"paths": [str(data)]}, by=by, test=False)
    settings.AIHUB_APP_KEYS = KeyRing("new", {"new": bytes(32)})
    repository = Repository.objects.get()
    with pytest.raises(Failure) as unreadable:
        keyring.look(repository)
    with pytest.raises(Refused, match="give the recovery code or a passphrase"):
        keyring.renew_own(repository, by=by)

    keyring.renew_own(repository, Key("recovery", kit.code), by=by)

    assert unreadable.value.code == "secret-unreadable"
    assert labels(Repository.objects.get()) == ["application", "recovery kit"]
    assert backed_up(source, by) == BackupState.COMPLETED


def test_a_spare_keyfile_makes_no_new_one_for_the_console(repository: Repository, by: Actor) -> None:
    keyring.add(repository, ANN, "in a drawer", by=by)
    before = dict(repository.secrets)

    with pytest.raises(Invalid, match="A keyfile opens for one console only"):
        keyring.renew_own(repository, ANN, by=by)

    assert opens(repository, ANN)
    assert dict(Repository.objects.get().secrets) == before


def test_of_two_renewals_the_later_one_takes_what_the_first_made(repository: Repository, by: Actor) -> None:
    """The second request had read its row before the first one was done."""
    stale = Repository.objects.get()

    keyring.renew_own(repository, by=by)
    keyring.renew_own(stale, by=by)

    kept = Repository.objects.get()
    assert set(kept.secrets) == {"keyfile"}
    assert labels(kept) == ["application", "recovery kit"]


def test_while_nothing_opens_yet_the_unreadable_keyfile_is_kept(
    kit: RecoveryKit, by: Actor, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its application key may be found again."""
    known = settings.AIHUB_APP_KEYS
    settings.AIHUB_APP_KEYS = KeyRing("new", {"new": bytes(32)})

    def failing(job: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        if job["job"] == "key_renew":
            raise Failure("The storage is away.")
        return running.perform(job, **more)

    monkeypatch.setattr(keyring, "perform", failing)
    with pytest.raises(Failure, match="away"):
        keyring.renew_own(Repository.objects.get(), Key("recovery", kit.code), by=by)
    settings.AIHUB_APP_KEYS = known

    assert labels(Repository.objects.get()) == ["application", "recovery kit"]


def test_a_deed_that_shuts_somebody_out_says_why(repository: Repository, by: Actor) -> None:
    keyring.add(repository, ANN, "in a drawer", by=by)

    with pytest.raises(Invalid, match="Say why"):
        keyring.remove(repository, "in a drawer", reason=" ", by=by)
    with pytest.raises(Invalid, match="Say why"):
        keyring.rotate(repository, reason="", by=by)


def test_a_wrong_code_gives_up_no_keyfile(repository: Repository, by: Actor) -> None:
    before = dict(repository.secrets)

    with pytest.raises(Refused) as caught:
        keyring.renew_own(repository, Key("recovery", engine.new_recovery_code()), by=by)

    assert caught.value.code == "wrong-secret"
    assert dict(Repository.objects.get().secrets) == before


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_around_the_renewal_our_keyfile_or_the_next_one_opens(
    source: Source, repository: Repository, by: Actor, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    class Killed(BaseException):
        pass

    real: Callable[..., dict[str, Any]] = running.perform

    def dying(job: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        if when == "after":
            real(job, **more)
        raise Killed

    monkeypatch.setattr(keyring, "perform", dying)
    with pytest.raises(Killed):
        keyring.renew_own(repository, by=by)
    monkeypatch.undo()

    assert backed_up(source, by) == BackupState.COMPLETED
    keyring.renew_own(Repository.objects.get(), by=by)
    assert set(Repository.objects.get().secrets) == {"keyfile"}
    assert labels(repository) == ["application", "recovery kit"]


def test_a_repository_that_takes_nothing_changes_no_keys(repository: Repository, by: Actor) -> None:
    repository.move_to(RepositoryState.RETIRED)

    for deed in (
        lambda: keyring.add(repository, ANN, "Ann", by=by),
        lambda: keyring.rotate(repository, reason="", by=by),
        lambda: keyring.draw(repository, by=by),
    ):
        with pytest.raises(Refused, match="nothing is written to it"):
            deed()


def test_a_console_that_took_it_over_may_shut_the_old_one_out(kit: RecoveryKit, by: Actor) -> None:
    """The keyfile of the console that was lost is in its database, wherever that is now."""
    repository = kit.repository
    lost = Key("keyfile", base64.b64decode(repository.secrets["keyfile"]))
    storage = repository.storage
    repository.delete()
    adopted, _job = adopting.adopt(storage, adopting.key(recovery_code=kit.code), by=by, take_over=True)
    old = [slot for slot in keyring.look(adopted).slots if slot.kind == "keyfile" and not slot.ours]

    keyring.remove(adopted, old[0].handle, reason="its machine was stolen", by=by)

    assert not opens(adopted, lost)
    assert labels(adopted) == ["application", "recovery kit"]
