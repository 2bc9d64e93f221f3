"""Makes the five calls that a client of the original makes, as its README shows
them: prints one line a call, exits with 1 if one is not what it should be.

    python3 original_client.py http://127.0.0.1:8765
"""

import json
import sys
import urllib.request


class Client:
    def __init__(self, base_url):
        self.base_url = base_url

    def _call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base_url + path, data=data, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=5) as response:
            return json.loads(response.read())

    def health_check(self):
        return self._call("/health").get("status") == "ok"

    def send_message(self, conversation_id, sender_id, receiver_id, text, message_type="text", priority="normal", metadata=None):
        answer = self._call("/api/messages/send", {
            "conversation_id": conversation_id, "sender_id": sender_id, "receiver_id": receiver_id, "text": text,
            "message_type": message_type, "priority": priority, "metadata": metadata or {},
        })
        return answer.get("status") == "success"

    def get_user_messages(self, user_id, max_count=10):
        return self._call(f"/api/messages/queue/{user_id}?max_count={max_count}").get("messages", [])

    def broadcast_message(self, sender_id, user_ids, text, message_type="system", metadata=None):
        answer = self._call("/api/messages/broadcast", {
            "message": {"sender_id": sender_id, "text": text, "message_type": message_type, "metadata": metadata or {}},
            "user_ids": user_ids,
        })
        return answer.get("status") == "success"

    def get_stats(self):
        return self._call("/api/stats")


client = Client(sys.argv[1])
stats_before = client.get_stats()
checks = {
    "health_check": client.health_check(),
    "send_message": client.send_message(conversation_id=123, sender_id=456, receiver_id=789, text="Hello from Django!", priority="normal"),
    "broadcast_message": client.broadcast_message(sender_id=1, user_ids=[123, 456, 789], text="System announcement"),
    "get_user_messages": [m["text"] for m in client.get_user_messages(user_id=789)] == ["Hello from Django!", "System announcement"],
    "emptied": client.get_user_messages(user_id=789) == [],
    "get_stats": client.get_stats()["messages_processed"] == stats_before["messages_processed"] + 4  # one send, and a broadcast to three
    and {"messages_persisted", "persistence_failures", "uptime_seconds", "memory", "process_count"} <= client.get_stats().keys(),
}
for name, ok in checks.items():
    print(name, "ok" if ok else "FAILED")
sys.exit(0 if all(checks.values()) else 1)
