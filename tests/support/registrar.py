"""kamailio as a carrier's registrar: users register, and calls go to whoever has registered, as Telnyx sends them.

The user of the Contact is replaced by the dialed number; its host, port and parameters are kept. Which user a
call is for, the caller says in the Request-URI's ``user`` parameter. Three users meet trouble: ``forbidden`` gets
403, ``brief`` 423 below 1200 s, and ``down`` 503.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.kamailio import serving
from tests.support.pki import Pki
from tests.support.ports import free_port
from tests.support.process import Program

__all__ = ["PASSWORD", "REALM", "Registrar"]

REALM = "sip.telnyx.com"
PASSWORD = "what opens the trunk"

_CONFIG = """\
#!KAMAILIO
debug=2
log_stderror=yes
children=1
tcp_children=1
auto_aliases=no
listen=udp:{host}:{port}
listen=tcp:{host}:{port}
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
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
{tls}
modparam("usrloc", "db_mode", 0)
modparam("usrloc", "timer_interval", 1)
modparam("registrar", "max_expires", {max_expires})
modparam("auth", "nonce_expire", 30)
modparam("rr", "append_fromtag", 1)
modparam("rr", "enable_double_rr", 1)
modparam("tm", "fr_timer", 5000)
modparam("tm", "fr_inv_timer", 60000)
request_route {{
  if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
  if (is_method("OPTIONS") && $rU == $null) {{ sl_send_reply("200", "OK"); exit; }}
  force_rport();
  if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
  if (has_totag()) {{
    if (loose_route()) {{ t_relay(); exit; }}
    if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
    sl_send_reply("481", "Call/Transaction Does Not Exist"); exit;
  }}
  if (is_method("REGISTER")) {{
    xlog("L_NOTICE", "REGISTER $fU over $proto expires $hdr(Expires) contact $ct authorization $hdr(Authorization)\\n");
    if ($fU == "forbidden") {{ sl_send_reply("403", "Forbidden"); exit; }}
    if ($fU == "down") {{ sl_send_reply("503", "Service Unavailable"); exit; }}
    if ($fU == "brief" && $(hdr(Expires){{s.int}}) < 1200) {{
      append_to_reply("Min-Expires: 1200\\r\\n"); sl_send_reply("423", "Interval Too Brief"); exit;
    }}
    if (!pv_www_authenticate("{realm}", "{password}", "0") || $au != $fU) {{
      www_challenge("{realm}", "{qop}"); exit;
    }}
    save("location"); exit;
  }}
  record_route();
  $var(did) = $rU;
  $ru = "sip:" + $(ru{{uri.param,user}}) + "@{realm}";
  if (!lookup("location")) {{ sl_send_reply("480", "Not Registered"); exit; }}
  $rU = $var(did);
  t_relay();
}}
"""

_TLS = """\
enable_tls=yes
listen=tls:{host}:{port}
loadmodule "tls.so"
modparam("tls", "certificate", "{certificate}")
modparam("tls", "private_key", "{key}")
modparam("tls", "tls_method", "TLSv1.2+")
"""


@dataclass
class Registrar:
    """Open with :meth:`open`. UDP and TCP on ``address``, TLS on ``tls_port`` where it has a certificate."""

    program: Program
    address: tuple[str, int]
    tls_port: int

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        folder: Path,
        *,
        address: tuple[str, int] | None = None,
        qop: bool = False,
        realm: str = REALM,
        max_expires_s: int = 3600,
        pki: Pki | None = None,
    ) -> AsyncIterator[Registrar]:
        """Without ``qop`` the challenge is that of RFC 2069, as Telnyx's. It grants ``max_expires_s`` at most."""
        host, port = address or ("127.0.0.1", free_port())
        tls_port = free_port(host)
        tls = "" if pki is None else _TLS.format(host=host, port=tls_port, certificate=pki.certificate, key=pki.key)
        values = {"host": host, "port": port, "realm": realm, "password": PASSWORD, "tls": tls}
        values |= {"qop": str(int(qop)), "max_expires": str(max_expires_s)}
        async with serving(folder, _CONFIG, (host, port), values) as program:
            yield cls(program, (host, port), tls_port)

    async def registers(self, user: str, least: int = 1) -> list[dict[str, str]]:
        """Each REGISTER seen, retransmissions included: ``over``, ``expires``, ``contact``, ``authorization``.

        Waits until it has told of ``least`` of them: what it prints comes later than what it sends.
        """
        pattern = re.compile(rf"REGISTER {re.escape(user)} over (\w+) expires (\S+) contact (.*) authorization (.*)$")
        names = ("over", "expires", "contact", "authorization")
        try:
            async with asyncio.timeout(5.0):
                while True:
                    matches = [match for line in self.program.lines if (match := pattern.search(line))]
                    if len(matches) >= least:
                        return [dict(zip(names, match.groups(), strict=True)) for match in matches]
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise self.program.failure(f"told of {len(matches)} REGISTERs of {user}, not {least}") from None

    def uri(self, did: str, user: str) -> str:
        """To dial, so that it goes where ``user`` has registered."""
        return f"sip:{did}@{self.address[0]}:{self.address[1]};user={user}"
