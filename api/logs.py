"""Logging: structlog lines on stderr, the standard library's loggers bridged into them.

What a line may hold is decided here, not by a level: no body, no header, no query string and no path parameter is ever
given to a logger; an exception is written as its class and the places it passed, without its message, which could hold
a value that somebody sent; other packages' loggers say nothing below WARNING (HTTP clients log whole URLs), and their
text is stripped of what looks like a coordinate or a token.
"""

import asyncio
import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Literal

import orjson
import structlog
from structlog.typing import EventDict, ExcInfo, Processor

_OURS = ("api", "discovery", "geo")
_SECRETIVE = re.compile(r"-?\d{1,3}\.\d{3,}|eyJ[\w-]*\.[\w-]+\.[\w-]*|nh_[a-z]{2}_\w+")


def configure(level: str, form: Literal["json", "console"]) -> None:
    """Set up logging of this process. ``level``: debug, info, warning or error; may be called again."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.ExceptionRenderer(_places),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, strip_values],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(form)],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    _route_standard_loggers(handler, level.upper())


def _route_standard_loggers(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").disabled = True  # it writes the query string


def _renderer(form: Literal["json", "console"]) -> Processor:
    if form == "console":
        return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return structlog.processors.JSONRenderer(_dumps)


def _dumps(event: object, **_: Any) -> str:
    return orjson.dumps(event, default=repr).decode()


def _places(exc_info: ExcInfo) -> str:
    kind, _, trace = exc_info
    return "\n".join([*_frames(trace), f"{kind.__module__}.{kind.__qualname__}"])


def _frames(trace: TracebackType | None) -> list[str]:
    return [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(trace)]


def strip_values(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace what looks like a coordinate, a token or a key in a foreign logger's line."""
    event["event"] = _SECRETIVE.sub("…", str(event.get("event", "")))
    return event


def loop_exception_handler(_loop: asyncio.AbstractEventLoop, context: MutableMapping[str, Any]) -> None:
    """For ``loop.set_exception_handler``: asyncio's own writes the exception's message and the task's repr."""
    error = context.get("exception")
    logger = structlog.get_logger("api.loop")
    logger.error("background_failure", what=context.get("message", ""), exc_info=error)
