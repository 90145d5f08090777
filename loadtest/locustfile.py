"""Simulated people drive all four features against ``--host``, each about one act a second (`make load`).

Tokens are signed with NEARHIVE_JWT_SECRET, the brand is made with NEARHIVE_ADMIN_KEY; else with those of DATA_DIR.
"""

import random
import time
import uuid
from typing import Any

from locust import FastHttpUser, constant_throughput, events, task

from api.auth import mint_token
from api.operator_client import OperatorClient, operator_key
from api.settings import load_settings

CITIES = ((48.8566, 2.3522), (35.6812, 139.7671), (-23.5505, -46.6333), (40.7128, -74.0060))
RULES = (409, 429)  # a rule of the service that says no is no failure of the service
BRAND = "/v1/brands/load-test"
JWT_SECRET = load_settings().jwt_secret
OPERATOR_KEY = operator_key("")


@events.test_start.add_listener
def make_brand(environment: Any, **_: Any) -> None:
    """A brand with 500 stores around each city."""
    rows = [f"{lat + random.gauss(0, 0.1):.5f},{lon + random.gauss(0, 0.1):.5f}\n" for lat, lon in CITIES * 500]
    operator = OperatorClient(environment.host, OPERATOR_KEY)
    operator.call("PUT", BRAND, body={"name": "Load test (simulated)"})
    operator.call("PUT", f"{BRAND}/stores", content=iter([f"lat,lon\n{''.join(rows)}".encode()]), media_type="text/csv")


class Person(FastHttpUser):
    """One person who walks around one of four cities."""

    wait_time = constant_throughput(1)

    def on_start(self) -> None:
        """A token, visible to everyone, bottles on, somewhere in a city."""
        assert JWT_SECRET is not None
        self.point = dict(zip(("lat", "lon"), random.choice(CITIES), strict=True))
        token = mint_token(JWT_SECRET.get_secret_value(), f"load-{uuid.uuid4().hex}", "adult", 3600, time.time())
        self.me = {"Authorization": f"Bearer {token}"}
        self.ask("PATCH", "/v1/me/settings", {"visibility": "everyone", "bottles": "on"})
        self.walk()

    def ask(self, method: str, path: str, body: object = None, name: str = "", **credential: str) -> Any:
        """The JSON answer to one request of this person, or None; a rule that says no counts as success."""
        options: dict[str, Any] = {"headers": {"Idempotency-Key": uuid.uuid4().hex, **(credential or self.me)}}
        options |= {"json": body} if body else {}
        with self.client.request(method, path, name=name or path, catch_response=True, **options) as answer:
            if answer.status_code in RULES:
                answer.success()
            return answer.json() if 200 <= answer.status_code < 300 else None

    @task(4)
    def walk(self) -> None:
        """Walk on, say where, and look around."""
        self.point = {name: degrees + random.gauss(0, 0.002) for name, degrees in self.point.items()}
        self.ask("PUT", "/v1/me/position", self.point)
        self.ask("GET", "/v1/nearby?radius_m=5000")
        self.ask("GET", "/v1/radar?radius_m=10000")

    @task
    def shake(self) -> None:
        """Shake, and wait up to 2 s for somebody."""
        if shake := self.ask("POST", "/v1/shakes", self.point):
            self.ask("GET", f"/v1/shakes/{shake['shake_id']}?wait_s=2", name="/v1/shakes/{shake_id}?wait_s=2")

    @task
    def sail(self) -> None:
        """Throw a bottle and pick one."""
        self.ask("POST", "/v1/bottles", {"text": "Hello (simulated)"})
        self.ask("POST", "/v1/bottles/pick")

    @task(2)
    def find_coffee(self) -> None:
        """The nearest stores."""
        self.ask("POST", f"{BRAND}/stores/nearest", {**self.point, "limit": 5}, **{"X-API-Key": OPERATOR_KEY})
