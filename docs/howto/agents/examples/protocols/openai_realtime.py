"""Saves an OpenAI key and makes an agent of it that greets, can hang up, and can transfer the caller.

Run with EDGE_API (http://127.0.0.1:8080/api/public/v1), EDGE_KEY and OPENAI_API_KEY in the environment.
"""

import os
from typing import Any

import httpx

edge = httpx.Client(
    base_url=os.environ["EDGE_API"], headers={"Authorization": f"Bearer {os.environ['EDGE_KEY']}"}, timeout=30
)


def call(method: str, path: str, body: dict[str, Any]) -> Any:
    answer = edge.request(method, path, json=body)
    answer.raise_for_status()
    return answer.json()["data"]


call("PUT", "/telephony/integrations/openai", {"api_key": os.environ["OPENAI_API_KEY"]})
agent = call(
    "POST",
    "/agents",
    {
        "name": "Front desk",
        "pipeline": {
            "protocol": "openai-realtime",
            "model": "gpt-realtime",
            "voice": "marin",
            "instructions": "You answer the phone of Acme's dental practice. Opening hours: 9 to 5 on weekdays.",
            "greeting": "Greet the caller and ask how you can help.",
            "turn_detection": {"type": "server_vad", "silence_duration_ms": 400},
            "tools": ["hang_up", "transfer_call"],
            "parameters": {"For emergencies, transfer to": "+14155550123"},
        },
    },
)
print(agent["id"])
