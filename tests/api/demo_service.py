"""`nearhive serve --demo` with a small world: ``python -m tests.api.demo_service``, configured by NEARHIVE_… alone."""

import sys
from functools import partial

from api.cli import _announce_demo, _plan
from api.demo.run import demo_main
from api.settings import load_settings
from api.supervisor import serve
from api.worker import worker_main

PEOPLE, NEAR = 200, 40


def main() -> int:
    settings = load_settings(workers=2, log_level="warning")
    demo = partial(demo_main, settings, "small", people=PEOPLE, near=NEAR)
    plan = _plan(settings, "127.0.0.1", 0, True)
    return serve(plan, partial(worker_main, settings, "small"), demo, partial(_announce_demo, settings, "127.0.0.1"))


if __name__ == "__main__":
    sys.exit(main())
