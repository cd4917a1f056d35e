"""The command ``truedy-edge``, in this process; as a program it is called in ``tests/calls/test_commands.py``."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from control.cli import main
from control.registry.sqlite import SqliteRegistry
from control.registry.types import Account, Integration
from control.vault import Vault
from media.recording_file import Head, make_head

Run = Callable[..., tuple[int, str, str]]
KEY = re.compile(r"truedy_[0-9A-Za-z]{43}")


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a subcommand on a registry of the test's own: (exit status, standard output, standard error)."""
    settings = tmp_path / "edge.toml"
    settings.write_text(f'[registry]\npath = "{tmp_path / "registry.db"}"\n')
    monkeypatch.delenv("TRUEDY_REGISTRY__PATH", raising=False)
    root = logging.getLogger()
    before = root.handlers[:], root.level

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main([*arguments, "--config", str(settings)])
        heard = capsys.readouterr()
        return status, heard.out, heard.err

    yield run
    root.handlers[:] = before[0]
    root.setLevel(before[1])


@pytest.mark.realtime
def test_a_key_is_printed_once_and_never_listed(run: Run) -> None:
    assert run("accounts", "create", "acme")[0] == 0
    status, key, _ = run("keys", "create", "--account", "acme")
    assert status == 0
    assert KEY.fullmatch(key.strip())
    status, listing, _ = run("keys", "list", "--account", "acme")
    assert status == 0
    assert key.strip() not in listing
    assert key.strip()[-4:] in listing
    assert "live" in listing


@pytest.mark.realtime
def test_a_rotated_key_is_replaced_and_a_revoked_one_refused(run: Run) -> None:
    run("accounts", "create", "acme")
    _, first, _ = run("keys", "create", "--account", "acme", "--operator")
    _, listing, _ = run("keys", "list")
    key_id = listing.splitlines()[1].split()[0]
    status, second, _ = run("keys", "rotate", key_id)
    assert status == 0
    assert KEY.fullmatch(second.strip())
    assert second != first
    _, listing, _ = run("keys", "list")
    assert sorted(line.split()[-1] for line in listing.splitlines()[1:]) == ["live", "revoked"]
    live = next(line.split()[0] for line in listing.splitlines()[1:] if line.endswith("live"))
    assert run("keys", "revoke", live)[0] == 0
    assert "live" not in run("keys", "list")[1]


@pytest.mark.realtime
def test_after_a_change_of_the_key_everything_is_sealed_anew_and_the_old_one_can_go(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Credentials and recordings; a recording that no key opens is told of, with exit status 1."""
    keys = [base64.b64encode(bytes([number]) * 32).decode() for number in range(3)]
    folder = tmp_path / "recordings"
    monkeypatch.setenv("TRUEDY_RECORDING__PATH", str(folder))

    def reseal(current: int, *previous: int) -> tuple[int, str, str]:
        monkeypatch.setenv("TRUEDY_SECRETS__KEY", keys[current])
        monkeypatch.setenv("TRUEDY_SECRETS__PREVIOUS_KEYS", json.dumps([keys[each] for each in previous]))
        return run("secrets", "reseal")

    asyncio.run(_with_secrets(tmp_path / "registry.db", folder, bytes(32)))
    assert reseal(1, 0)[:2] == (0, "sealed anew: 1 rows of credentials, 1 recordings\n")
    assert reseal(1)[:2] == (0, "sealed anew: 0 rows of credentials, 0 recordings\n")
    assert (reseal(2)[0], "not configured" in reseal(2)[2]) == (1, True)
    (tmp_path / "registry.db").unlink()
    status, _, complaint = reseal(2)
    assert (status, "1 recordings are open to none" in complaint) == (1, True)
    monkeypatch.delenv("TRUEDY_SECRETS__KEY")
    assert run("secrets", "reseal")[0] == 1


async def _with_secrets(path: Path, folder: Path, key: bytes) -> None:
    """An integration in the registry, and a recording."""
    vault = Vault(key, entropy=os.urandom)
    registry = SqliteRegistry.open(path, vault)
    await registry.create_account(Account("a1", "acme", 0.0))
    await registry.save_integration(Integration("a1", "twilio", {}, {"auth_token": "t"}))
    await registry.close()
    head = msgspec.json.encode(Head(call="c", account="a1", format="wav", started_at=0.0))
    folder.mkdir()
    (folder / "c.rec").write_bytes(make_head(head, vault.seal(bytes(32), "recordings " + head.decode())))


@pytest.mark.realtime
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("keys", "create", "--account", "nobody"), "account"),
        (("keys", "revoke", "no-such-key"), "key"),
        (("accounts", "create", ""), "name"),
        (("accounts", "create", "a\nb"), "name"),
    ],
)
def test_what_cannot_be_done_is_one_line(run: Run, arguments: tuple[str, ...], complaint: str) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (1, "")
    assert complaint in err
    assert err.count("\n") == 1


@pytest.mark.realtime
def test_a_second_account_of_a_name_is_refused_in_words(run: Run) -> None:
    """No SQL: what a script looks for is that it exists."""
    assert run("accounts", "create", "acme")[0] == 0
    assert run("accounts", "create", "acme") == (1, "", "truedy-edge: conflict: an account named 'acme' exists\n")


@pytest.mark.realtime
def test_numbers_are_listed_as_a_table(run: Run) -> None:
    status, out, _ = run("numbers", "list")
    assert status == 0
    assert out.split() == ["NUMBER", "PROVIDER", "STATUS", "AGENT", "ID"]


def test_good_settings_are_said_to_be_good(run: Run) -> None:
    status, out, _ = run("check-config")
    assert status == 0
    assert "udp:127.0.0.1:5060" in out


@pytest.mark.parametrize(
    ("command", "keys"),
    [("check-config", ["recording.path", "agents.python[0]"]), ("serve", ["recording.path"])],
)
def test_what_cannot_serve_is_named_with_the_file_and_the_line(
    tmp_path: Path, command: str, keys: list[str], run: Run
) -> None:
    """An agent that does not load costs its own calls alone: it keeps nobody from serving."""
    settings = tmp_path / "edge.toml"
    registry = f'[registry]\npath = "{tmp_path / "registry.db"}"\n'
    settings.write_text(registry + '[recording]\npath = "/proc/x"\n[agents]\npython = ["no_such:agent"]\n')
    status, _, said = run(command)
    assert status == 2
    place = {"recording.path": f"{settings}:4", "agents.python[0]": f"{settings}:6"}
    lines = [f"{place[key]}: {key}" for key in keys]
    assert [":".join(line.split(":", 3)[:3]) for line in said.splitlines()] == lines


def test_bad_settings_are_exit_2_and_name_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str], run: Run) -> None:
    settings = tmp_path / "bad.toml"
    settings.write_text('[sip]\nlisten = ["udp:nowhere"]\n')
    assert main(["check-config", "--config", str(settings)]) == 2
    assert "sip.listen" in capsys.readouterr().err


def test_a_command_line_that_is_none_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["keys"])
    assert refused.value.code == 2
