"""The command ``truedy-edge``.

Exit status: 0 done (for ``call``: answered), 1 not done, 2 the settings or the command line are wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from config.load import SettingsError, load
from config.settings import Settings
from control import logs, preflight
from control.entropy import entropy, wall_clock
from control.errors import OperationError, SecretsUnavailable
from control.live_calls import NoLiveCalls
from control.operations import Operations
from control.operations.principal import Principal
from control.registry.types import Page, RegistryError
from control.resources.accounts import CreateAccount, CreateKey

__all__ = ["main"]

_PAGE: Final = 100

Subcommand = Callable[[argparse.Namespace, Settings], Awaitable[int]]


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, metavar="FILE", help="settings (TOML); TRUEDY_… variables override it")
    common.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    parser = argparse.ArgumentParser(prog="truedy-edge", description="A SIP edge for AI voice agents.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Subcommand, help: str, into: Any = commands) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = into.add_parser(name, parents=[common], help=help, description=help)
        made.set_defaults(run=run, also=None)
        return made

    def group(name: str, help: str) -> Any:
        return commands.add_parser(name, help=help, description=help).add_subparsers(required=True, metavar="COMMAND")

    add("serve", _serve, "Run the edge.").set_defaults(also=preflight.try_storage)
    check = add("check-config", _check_config, "Check the settings, and what they name, and say what they mean.")
    check.set_defaults(also=preflight.try_all)
    accounts = group("accounts", "Accounts own numbers, agents and keys.")
    add("create", _accounts_create, "Create an account; prints its id.", accounts).add_argument("name")
    keys = group("keys", "API keys.")
    create = add("create", _keys_create, "Create a key; prints it, this once.", keys)
    create.add_argument("--account", required=True, metavar="NAME")
    create.add_argument("--operator", action="store_true", help="a key that may do what an account may not")
    listing = add("list", _keys_list, "List keys (never their text).", keys)
    listing.add_argument("--account", metavar="NAME")
    add("revoke", _keys_revoke, "Refuse a key from now on.", keys).add_argument("id")
    add("rotate", _keys_rotate, "Replace a key; prints the new one.", keys).add_argument("id")
    numbers = group("numbers", "Imported numbers.")
    add("list", _numbers_list, "List all numbers.", numbers)
    secrets = group("secrets", "What is sealed at rest.")
    add("reseal", _secrets_reseal, "Seal all anew with secrets.key, so that previous keys can go.", secrets)
    _add_call(add("call", _call, "Place one call with the softphone and draw its ladder."))
    return parser


def _add_call(call: argparse.ArgumentParser) -> None:
    call.add_argument("uri", metavar="SIP-URI")
    call.add_argument("--play", type=Path, metavar="WAV", help="what to say (8 kHz mono 16-bit)")
    call.add_argument("--record", type=Path, metavar="WAV", help="where to keep what is heard")
    call.add_argument("--record-both", type=Path, metavar="WAV", help="stereo: heard on the left, said on the right")
    call.add_argument("--digits", default="", metavar="12#", help="digits to press; w pauses half a second")
    call.add_argument("--digits-after", type=float, default=0.5, metavar="SECONDS", help="when, after the answer")
    call.add_argument(
        "--codec", dest="codecs", action="append", choices=("PCMU", "PCMA", "G722", "OPUS"), help="offer it; repeatable"
    )
    call.add_argument("--srtp", action="store_true", help="offer encrypted media, and nothing else")
    call.add_argument("--transport", choices=("udp", "tcp", "tls"))
    call.add_argument("--seconds", type=float, default=10.0, metavar="N", help="hang up N seconds after the answer")
    call.add_argument("--from", dest="caller", default="+14155550199", metavar="NUMBER")
    call.add_argument("--username", help="for a digest challenge; the password is TRUEDY_CALL_PASSWORD")
    call.add_argument("--trust", type=Path, metavar="PEM", help="certificate authority to trust for TLS")


# --- subcommands ------------------------------------------------------------------------------


async def _serve(arguments: argparse.Namespace, settings: Settings) -> int:
    gc.disable()  # until it serves: what is loaded is no garbage
    from control.main import StartError, serve  # noqa: PLC0415 - the other subcommands need none of it

    try:
        return await serve(settings)
    except StartError as error:
        print(f"truedy-edge: cannot start: {error}", file=sys.stderr)
        return 1
    finally:
        gc.enable()


async def _check_config(arguments: argparse.Namespace, settings: Settings) -> int:
    print(f"settings are good: sip {', '.join(settings.sip.listen)}; api {settings.api.listen};", end=" ")
    print(f"trunks {', '.join(trunk.name for trunk in settings.trunks) or 'none'}; registry {settings.registry.path}")
    return 0


async def _with_operations(settings: Settings, work: Callable[[Operations], Coroutine[Any, Any, int]]) -> int:
    from control.main import open_registry  # noqa: PLC0415

    registry = open_registry(settings, serving=False)
    try:
        operations = Operations(registry, NoLiveCalls(), settings, clock=wall_clock, entropy=entropy)
        return await work(operations)
    finally:
        await registry.close()


async def _accounts_create(arguments: argparse.Namespace, settings: Settings) -> int:
    async def work(operations: Operations) -> int:
        account = await operations.create_account(Principal.console(), CreateAccount.of(name=arguments.name))
        print(account.id)
        return 0

    return await _with_operations(settings, work)


async def _keys_create(arguments: argparse.Namespace, settings: Settings) -> int:
    async def work(operations: Operations) -> int:
        console = Principal.console()
        account = await operations.account_named(console, arguments.account)
        role = "operator" if arguments.operator else "account"
        request = CreateKey.of(account_id=str(account.id), role=role)
        print((await operations.create_key(console, request)).key)
        return 0

    return await _with_operations(settings, work)


async def _keys_list(arguments: argparse.Namespace, settings: Settings) -> int:
    async def work(operations: Operations) -> int:
        console = Principal.console()
        if arguments.account:
            console = Principal.console(str((await operations.account_named(console, arguments.account)).id))
        rows = [
            (key.id, key.account_id, key.role, f"…{key.hint}", "revoked" if key.revoked_at else "live")
            for key in await operations.keys(console)
        ]
        _table(("ID", "ACCOUNT", "ROLE", "KEY", "STATUS"), rows)
        return 0

    return await _with_operations(settings, work)


async def _keys_revoke(arguments: argparse.Namespace, settings: Settings) -> int:
    async def work(operations: Operations) -> int:
        await operations.revoke_key(Principal.console(), arguments.id)
        return 0

    return await _with_operations(settings, work)


async def _keys_rotate(arguments: argparse.Namespace, settings: Settings) -> int:
    async def work(operations: Operations) -> int:
        print((await operations.rotate_key(Principal.console(), arguments.id)).key)
        return 0

    return await _with_operations(settings, work)


async def _numbers_list(arguments: argparse.Namespace, settings: Settings) -> int:
    async def work(operations: Operations) -> int:
        console, rows, offset, total = Principal.console(), [], 0, 1
        while offset < total:
            listing = await operations.numbers(console, Page(_PAGE, offset))
            rows += [
                (row.phone_number, row.provider, row.status, str(row.agent_id or "-"), str(row.id))
                for row in listing.items
            ]
            total, offset = listing.total, offset + _PAGE
        _table(("NUMBER", "PROVIDER", "STATUS", "AGENT", "ID"), rows)
        return 0

    return await _with_operations(settings, work)


async def _secrets_reseal(arguments: argparse.Namespace, settings: Settings) -> int:
    from control.main import open_registry  # noqa: PLC0415
    from control.recording_files import reseal  # noqa: PLC0415
    from control.vault import vault_of  # noqa: PLC0415

    vault = vault_of(settings.secrets, entropy=entropy)
    if vault is None:
        raise SecretsUnavailable("secrets.key is not set")
    registry = open_registry(settings, serving=False)
    try:
        credentials = await registry.reseal()
    finally:
        await registry.close()
    recordings, unopened = await asyncio.to_thread(reseal, settings.recording.path.absolute(), vault)
    print(f"sealed anew: {credentials} rows of credentials, {recordings} recordings")
    if unopened:
        print(f"truedy-edge: {unopened} recordings are open to none of the keys, or damaged", file=sys.stderr)
    return 1 if unopened else 0


async def _call(arguments: argparse.Namespace, settings: Settings) -> int:
    from control.phone import PhoneCall, PhoneError, place_call  # noqa: PLC0415
    from edge.events import TransportName  # noqa: PLC0415
    from edge.ladder import draw  # noqa: PLC0415

    call = PhoneCall(
        target=arguments.uri,
        caller=arguments.caller,
        transport=TransportName(arguments.transport) if arguments.transport else None,
        play=arguments.play,
        record=arguments.record,
        record_both=arguments.record_both,
        digits=arguments.digits,
        digits_after_ms=int(arguments.digits_after * 1000),
        codecs=tuple(arguments.codecs or ("PCMU", "PCMA")),
        srtp=arguments.srtp,
        seconds=arguments.seconds,
        username=arguments.username,
        password=os.environ.get("TRUEDY_CALL_PASSWORD"),
        trust=arguments.trust,
    )
    try:
        result = await place_call(call, entropy=entropy)
    except PhoneError as error:
        print(f"truedy-edge call: {error}", file=sys.stderr)
        return 1
    print(draw(result.trace, left="softphone", right="edge"))
    why = f" ({result.reason})" if result.reason else ""
    if result.statistics is not None and result.answered:
        counts = result.statistics
        print(
            f"audio: {counts.packets_sent} packets sent, {counts.packets_received} received, "
            f"{counts.packets_lost} lost ({counts.codec}{', ' + counts.srtp if counts.srtp else ''}); "
            f"ended by the {result.ended_by} side{why}"
        )
    if not result.answered:
        print(f"not answered: {result.status or '-'} {result.phrase}{why}", file=sys.stderr)
    return 0 if result.answered else 1


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    lines = [head, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit status."""
    arguments = _parser().parse_args(argv)
    logs.set_up(arguments.log_level if arguments.run is not _call else "error")
    try:
        settings = load(arguments.config, os.environ, arguments.also)
        run: Subcommand = arguments.run
        return uvloop.run(_run(run, arguments, settings))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    except OperationError as error:
        print(f"truedy-edge: {error}", file=sys.stderr)
        return 1
    except RegistryError as error:
        print(f"truedy-edge: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def _run(run: Subcommand, arguments: argparse.Namespace, settings: Settings) -> int:
    return await run(arguments, settings)


if __name__ == "__main__":
    sys.exit(main())
