"""Every metric of the edge: what ``/metrics`` says of each, and the page ``docs/reference/metrics.md``.

Names follow Prometheus' conventions: base units as suffixes, ``_total`` after what only rises.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

__all__ = ["ALERTS", "DELAYS_S", "FAMILIES", "GROUPS", "Alert", "Family"]

NAMESPACE: Final = "truedy"

DELAYS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Buckets of histograms [s]: from what the edge takes by itself to the longest that anybody lets a phone ring."""


@dataclass(frozen=True, slots=True)
class Family:
    """Series of one name. ``key`` is what the code counts or reads it under; ``help`` says what it means.

    ``buckets`` are a histogram's bounds, its last excepted, which is infinite.
    """

    type: Literal["counter", "gauge", "histogram"]
    key: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """Of its series; a histogram's have suffixes beside."""
        return f"{NAMESPACE}_{self.key}" + ("_total" if self.type == "counter" else "")

    @property
    def series(self) -> Mapping[str, str]:
        """What its series are read under → their names."""
        parts = ("_bucket", "_sum", "_count") if self.type == "histogram" else ("",)
        return {f"{self.key}{part}": f"{self.name}{part}" for part in parts}


@dataclass(frozen=True, slots=True)
class Alert:
    """A PromQL ``expression`` that should hold for no longer than ``lasting``, and what it ``means`` when it does."""

    expression: str
    lasting: str
    means: str


def _counter(key: str, help_text: str, *labels: str) -> Family:
    return Family("counter", key, help_text, labels)


def _gauge(key: str, help_text: str, *labels: str) -> Family:
    return Family("gauge", key, help_text, labels)


def _histogram(key: str, help_text: str, *labels: str) -> Family:
    return Family("histogram", key, help_text, labels, DELAYS_S)


GROUPS: Final[Mapping[str, tuple[Family, ...]]] = MappingProxyType(
    {
        "Calls": (
            _gauge("calls", "Calls not yet recorded as ended, those that ring included."),
            _gauge("calls_announced", "Calls that a webhook announced and whose INVITE may still come."),
            _counter(
                "calls_ended", "Calls that ended, refused ones included, by the record's end_reason.", "by", "reason"
            ),
            _counter(
                "calls_refused",
                "Calls refused with a final response; offers refused in mid-call have a reason that begins reoffer_.",
                "reason",
                "status",
            ),
            _histogram(
                "call_ringing_delay_seconds",
                "From a call's INVITE to its first 180 or 183: ours where the call came in, the carrier's where it "
                "was placed by SIP.",
                "direction",
            ),
            _histogram("call_answer_delay_seconds", "From the INVITE of a call that came in to its 200."),
            _counter("calls_fallen_back", "Calls that their number's fallback took over, by what failed.", "reason"),
            _counter(
                "outgoing_calls_refused", "Calls and transfers that the rules against toll fraud forbade.", "reason"
            ),
            _counter("transfers", "Transfers that came to their end, by how they were tried.", "method", "outcome"),
            _counter("machine_detections", "Verdicts on who answered a call that was placed.", "result"),
            _counter(
                "digits_unsent", "Times that whom a caller was transferred to had no way to take digits.", "trunk"
            ),
            _counter("recordings", "Recordings by what became of them: completed, cut, failed, expired.", "status"),
        ),
        "SIP": (
            _gauge("sip_pending", "SIP transactions and dialogs, those included that linger after their end."),
            _gauge("sip_connections", "TCP and TLS connections that are open."),
            _counter(
                "trunk_verdicts",
                "Requests by verdict (accepted, challenge, refused, silent) and by what identified them, or why not.",
                "by",
                "source",
                "verdict",
            ),
            _counter(
                "sip_requests_challenged", "Requests answered with 407, to be sent again with credentials.", "source"
            ),
            _counter(
                "sip_requests_refused",
                "Requests refused before there was a call, and NOTIFYs of a transfer.",
                "reason",
                "source",
                "status",
            ),
            _counter("sip_messages_dropped", "Messages dropped without an answer.", "reason", "source"),
            _counter(
                "sip_transport_drops",
                "Connections beyond a limit, failed TLS handshakes and unreadable streams, by what was dropped.",
                "reason",
                "source",
                "what",
            ),
            _counter("sip_connections_closed", "TCP and TLS connections that ended.", "reason", "transport"),
            _counter("sip_accept_failures", "Connections that the system did not let us accept, by errno.", "reason"),
            _counter("sip_send_failures", "Messages that could not be sent.", "reason"),
            _counter("sip_commands_ignored", "Commands for calls that had ended or could not follow them.", "command"),
            _counter("sip_faults", "Errors of the edge itself in signalling, each survived and logged.", "where"),
        ),
        "Carriers": (
            _gauge(
                "registrations", "Connections that are to be registered at their carrier, by how they are.", "state"
            ),
            _counter("registration_failures", "Registrations that failed.", "reason", "status", "trunk"),
            _counter("registrations_shared", "Times that another device appeared under a connection's user.", "trunk"),
            _counter("twilio_webhooks", "Twilio's webhooks, by what became of them.", "method", "outcome"),
        ),
        "Media": (
            _gauge("rtp_ports", "RTP port pairs in the range."),
            _gauge("rtp_ports_leased", "RTP port pairs in use."),
            _gauge("rtp_ports_resting", "RTP port pairs that rest before they are used again."),
            _gauge(
                "media_tick_lateness_p99_seconds",
                "How late audio was sent in the last 10 s, 99th percentile of the worst media process.",
            ),
            _gauge(
                "media_workers", "Media processes that are up, the spare included; 0 where media has none of its own."
            ),
            _counter(
                "media_workers_died", "Media processes that died, by exit status (a signal's number negated).", "status"
            ),
            _gauge("media_worker_calls", "Calls that this media process carries.", "worker"),
            _gauge("media_worker_memory_bytes", "Memory that this media process holds.", "worker"),
            _counter("media_worker_cpu_seconds", "CPU time that this media process has used.", "worker"),
            _counter("media_requests_refused", "Commands that a media process was too busy for.", "command"),
            _counter("media_requests_failed", "Commands that media did not answer, or not in time.", "command"),
            _gauge(
                "media_gc_pause_max_seconds",
                "Longest pause of a media process's garbage collector, of the worst process.",
            ),
        ),
        "Agents": (
            _histogram(
                "agent_connect_seconds",
                "From a call's wish for its agent until the agent knew of the call: connection and handshake.",
                "protocol",
            ),
            _counter(
                "agent_events", "What happened to agents in their calls: lost, reconnected, not reached.", "event"
            ),
            _counter("agent_requests_refused", "What agents asked for in their calls and were refused.", "verb"),
            _gauge("agent_hosts", "Processes that run agents and are up, the spare included."),
            _counter("agent_hosts_died", "Processes that ran agents and died, by exit status.", "status"),
            _counter("agent_calls_refused", "Calls whose agent found every process full, or none up.", "reason"),
            _gauge("agent_host_calls", "Calls whose agent runs in this process.", "host"),
            _gauge("agent_host_memory_bytes", "Memory that this process holds.", "host"),
            _counter("agent_host_cpu_seconds", "CPU time that this process has used.", "host"),
        ),
        "The process": (
            _gauge(
                "build_info",
                "Always 1: its labels say which release of the edge runs, on which Python.",
                "python",
                "version",
            ),
            _gauge("tasks", "Supervised tasks that run."),
            _counter("task_failures", "Supervised tasks that ended with an error, each logged."),
            _gauge("journal_queued_lines", "Lines of the journal that wait for room on the disk."),
            _counter(
                "journal_lost_lines",
                "Lines of the journal that were lost: the queue was full too, or they could not be encoded.",
            ),
            _gauge("journal_behind_bytes", "Bytes of the journal that the registry has not taken yet."),
            _counter("api_requests", "HTTP requests, by the route's template.", "method", "route", "status"),
            _counter(
                "api_processes_died",
                "Processes of the control API that died, by exit status (a signal's number negated).",
                "status",
            ),
            _gauge("api_process_memory_bytes", "Memory that the control API's process holds, where it has one."),
            _counter("api_process_cpu_seconds", "CPU time that the control API's process has used since its start."),
            _counter("gc_collections", "Garbage collections of the process that signals."),
            _counter("gc_pause_seconds", "Time that these garbage collections took."),
            _gauge("gc_pause_max_seconds", "Longest of these garbage collections."),
        ),
    }
)
"""In the order of the page."""

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType(
    {family.key: family for group in GROUPS.values() for family in group}
)
"""All of them, by their key."""


def _one_more(name: str, span: str) -> str:
    """True even where the series begins with that event."""
    return f"sum({name}) - (sum({name} offset {span}) or vector(0)) > 0"


def _slowest_twentieth(name: str, selector: str = "", *by: str) -> str:
    """What one in twenty observations of a histogram is beyond [s]; nothing where there are none."""
    return f"histogram_quantile(0.95, sum by ({', '.join(('le', *by))}) (rate({name}_bucket{selector}[5m])))"


ALERTS: Final = (
    Alert(
        'truedy_registrations{state="failed"} > 0',
        "2m",
        "Calls to that connection's numbers do not arrive. The log's `not registered` lines say why.",
    ),
    Alert(
        'sum by (reason) (increase(truedy_calls_refused_total{status=~"5.."}[10m])) > 0',
        "",
        "Calls turned away for want of room or by a fault: `edge_full`, `no_media_port`, `registry_unavailable`, "
        "`media_unavailable`, `internal_error`.",
    ),
    Alert(
        'sum(increase(truedy_calls_refused_total{reason=~"agent_.+"}[10m])) > '
        "0.05 * sum(increase(truedy_calls_ended_total[10m]))",
        "",
        "More than one call in twenty finds no agent: `reason` says whether it refused, was late or cannot be reached.",
    ),
    Alert(
        _slowest_twentieth("truedy_call_answer_delay_seconds") + " > 5",
        "10m",
        "One caller in twenty hears more than 5 s of ringing: agents are slow to be reached or to speak first "
        "(`answer_after_s` is the longest that a call waits for that).",
    ),
    Alert(
        _slowest_twentieth("truedy_call_ringing_delay_seconds", '{direction="inbound"}') + " > 0.5",
        "10m",
        "One call in twenty does not ring within 0.5 s of its INVITE: the registry or the edge is overloaded.",
    ),
    Alert(
        _slowest_twentieth("truedy_agent_connect_seconds", "", "protocol") + " > 2.5",
        "10m",
        "One agent in twenty of that `protocol` is connected to only after 2.5 s: it, or the way to it, is overloaded.",
    ),
    Alert(
        "truedy_media_tick_lateness_p99_seconds > 0.01",
        "1m",
        "Audio is sent late, and callers begin to hear it: more calls than the CPU carries, or a neighbour takes it.",
    ),
    Alert(
        "(truedy_rtp_ports_leased + truedy_rtp_ports_resting) / truedy_rtp_ports > 0.8",
        "5m",
        "Few RTP ports are left: widen `media.port_min`–`media.port_max`.",
    ),
    Alert(
        "process_open_fds / process_max_fds > 0.8",
        "5m",
        "Few descriptors are left: raise `LimitNOFILE`.",
    ),
    Alert(
        _one_more("truedy_media_workers_died_total", "10m"),
        "",
        "A media process died and its calls with it. The log's `media worker died` has its status.",
    ),
    Alert(
        _one_more("truedy_agent_hosts_died_total", "10m"),
        "",
        "A process that runs agents died, or hung and was killed. The log says where it was.",
    ),
    Alert(
        _one_more("truedy_api_processes_died_total", "10m"),
        "",
        "The control API's process died, or hung and was killed; calls went on, and another one serves.",
    ),
    Alert(
        "increase(truedy_task_failures_total[10m]) > 0",
        "",
        "A fault of the edge: the log's `task failed` has its traceback.",
    ),
    Alert(
        _one_more("truedy_sip_faults_total", "10m"),
        "",
        "A fault of the edge in signalling: the log's `fault in …` has its traceback.",
    ),
    Alert(
        "truedy_journal_queued_lines > 0",
        "1m",
        "The journal cannot be written: the disk is full or failing. Calls go on; "
        "`truedy_journal_lost_lines_total` rises once the queue is full.",
    ),
    Alert(
        "truedy_journal_behind_bytes > 1e6",
        "5m",
        "The registry does not keep up or cannot be written: records of calls come late.",
    ),
    Alert(
        'increase(truedy_twilio_webhooks_total{outcome="bad signature"}[10m]) > 3',
        "",
        "Twilio's auth token has changed, `api.public_url` is not what Twilio calls, or somebody forges webhooks.",
    ),
    Alert(
        "sum by (reason) (increase(truedy_outgoing_calls_refused_total[1h])) > 10",
        "",
        "An agent or a key is misused for toll fraud, or an account's limits are too narrow.",
    ),
    Alert(
        _one_more('truedy_recordings_total{status="failed"}', "1h"),
        "",
        "A call was not recorded: no key (`secrets.key`), no room, or no right to write.",
    ),
)
"""What an operator wants to be woken for, or told of in the morning."""
