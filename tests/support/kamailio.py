"""kamailio as a proxy between a phone and the edge: it adds Via, Record-Route and ``received``, and changes transport.

It never touches bodies: media flows past it, as with a carrier's proxy.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port, hostport
from tests.support.process import Program, running

__all__ = ["Kamailio", "serving"]

_CONFIG = """\
#!KAMAILIO
debug=2
log_stderror=yes
children=1
tcp_children=1
auto_aliases=no
listen=udp:{address}
listen=tcp:{address}
mpath="{modules}"
loadmodule "kex.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
loadmodule "nathelper.so"
loadmodule "auth.so"
modparam("rr", "append_fromtag", 1)
modparam("rr", "enable_double_rr", 1)
modparam("tm", "fr_timer", 5000)
modparam("tm", "fr_inv_timer", 60000)
request_route {{
  xlog("L_NOTICE", "REQUEST $rm $ru from $proto:$si:$sp\\n");
  if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
  if (is_method("OPTIONS") && uri==myself && $rU == $null) {{ sl_send_reply("200", "OK"); exit; }}
  force_rport();
  if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
  if (has_totag()) {{
    if (loose_route()) {{ t_relay(); exit; }}
    if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
    sl_send_reply("481", "Call/Transaction Does Not Exist"); exit;
  }}
  {challenge}
  if (is_method("INVITE")) record_route();
  $ru = "sip:" + $rU + "@{target};transport={transport}";
  t_relay();
}}
onreply_route {{
  xlog("L_NOTICE", "RESPONSE $rs $rm from $proto:$si:$sp\\n");
}}
"""

_CHALLENGE = """\
if (is_method("INVITE")) {{
    if (!pv_proxy_authenticate("kamailio", "{password}", "0") || $au != "{user}") {{
      proxy_challenge("kamailio", "1"); exit;
    }}
    consume_credentials();
  }}
"""


@dataclass
class Kamailio:
    """Open with :meth:`open`; listens on ``port`` for UDP and TCP."""

    program: Program
    port: int

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        target: tuple[str, int],
        *,
        transport: str = "udp",
        credentials: tuple[str, str] | None = None,
    ) -> AsyncIterator[Kamailio]:
        """Sends every new call on to ``target`` over ``transport``, once it has proved to have ``credentials``.

        It listens on the target's address.
        """
        host, port = target[0], free_port(target[0])
        values = {"address": hostport(host, port), "target": hostport(*target), "transport": transport}
        user, password = credentials or ("", "")
        values["challenge"] = _CHALLENGE.format(user=user, password=password) if credentials else ""
        async with serving(folder, _CONFIG, (host, port), values) as program:
            yield cls(program, port)

    def requests(self, method: str) -> int:
        """How many requests with this method it has seen."""
        return sum(f"REQUEST {method} " in line for line in self.program.lines)


@asynccontextmanager
async def serving(
    folder: Path, config: str, address: tuple[str, int], values: Mapping[str, object]
) -> AsyncIterator[Program]:
    """kamailio with this configuration, ``{modules}`` and ``values`` filled in, once it answers over UDP."""
    runtime = folder / "run"
    runtime.mkdir(parents=True, exist_ok=True)
    modules = next(Path("/usr/lib").glob("*/kamailio/modules"), Path("/usr/lib/kamailio/modules"))
    file = folder / "kamailio.cfg"
    file.write_text(config.format(modules=f"{modules}/", **values))
    options = ("-m", "32", "-M", "4", "-DD", "-E", "-Y", runtime, "-w", runtime, "-P", runtime / "pid")
    async with running("kamailio", "-f", file, *options, name="kamailio") as program:
        await _until_it_answers(program, address)
        yield program


async def _until_it_answers(program: Program, address: tuple[str, int]) -> None:
    """OPTIONS, repeated as UDP needs: it prints nothing when it is ready."""
    from tests.support.phone import Phone

    async with Phone.open(address, host=address[0]) as phone:
        try:
            await phone.options(timeout_s=10.0)
        except AssertionError as error:
            raise program.failure("does not answer OPTIONS") from error
