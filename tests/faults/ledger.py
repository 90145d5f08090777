"""What clients did, written down before it was sent, and the judgement of what was read back.

The three outcomes of Jepsen: ``ok`` (acknowledged), ``fail`` (a definite refusal), ``unknown`` (timeout, reset, 5xx).
Every act writes one value to one register; the acts on a register are in order (``seq``), one at a time. Then:

- after an ok the register holds that value, or that of a later act whose outcome is unknown;
- a failed act is never seen, and nothing is seen that nobody did;
- what was seen never goes back to an earlier act.

An act that was never sent to its end may still happen late (a stopped worker wakes up with the request): such a value
is legal but told apart as ``late``.
"""

import asyncio
import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

OK, FAIL, UNKNOWN = "ok", "fail", "unknown"

Value = str | None
"""What a register holds, as text; None: nothing is there."""


@dataclass(slots=True)
class Act:
    """One intended write. ``weak``: class C, whose acknowledgement may be lost within a second."""

    number: int
    key: str
    seq: int
    value: Value
    weak: bool = False
    outcome: str = UNKNOWN
    tries: int = 0
    doubted: bool = False  # some try had an unknown outcome, so it may happen once more, late
    detail: str = ""

    def fold(self, outcome: str, detail: str = "") -> None:
        """One more try ended so. Once ok it stays so; a refusal after an unknown try leaves it unknown."""
        self.doubted = self.doubted or outcome == UNKNOWN
        if self.outcome != OK:
            self.outcome = outcome if outcome == OK or not self.doubted else UNKNOWN
        self.tries += 1
        self.detail = detail or self.detail


@dataclass(slots=True)
class Register:
    """The acts on one key, in order, and the highest one that was seen."""

    initial: Value = None
    acts: list[Act] = field(default_factory=list)
    seen: int = 0

    def allowed(self) -> dict[Value, int]:
        """Values that may be there now -> the latest act that wrote it (0: the initial value)."""
        found: dict[Value, int] = {}
        for act in reversed(self.acts):
            if act.outcome != FAIL:
                found.setdefault(act.value, act.seq)
            if act.outcome == OK and not act.weak:
                return found
        found.setdefault(self.initial, 0)
        return found


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be. ``kind``: lost, phantom, back, late, double (two owners), status (an answer)."""

    kind: str
    key: str
    expected: str
    found: Value


class Ledger:
    """Acts in a file: each line is on disk before its request is sent."""

    def __init__(self, path: Path | None) -> None:
        """``path`` None keeps it in memory only (for judging a file that was kept)."""
        self.path = path
        self.acts: list[Act] = []
        self.registers: dict[str, Register] = {}
        self._groups: dict[str, list[str]] = defaultdict(list)  # all of a key up to its last colon -> keys
        self.findings: list[Finding] = []
        self._lines: list[str] = []
        self._noted = self._kept = 0  # lines
        self._writing = asyncio.Lock()
        self._file: TextIO | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w")

    # --- writing down ---

    def begin(self, key: str, value: Value, *, weak: bool = False) -> Act:
        """The next act on ``key``; to be followed by :meth:`on_disk` before it is sent."""
        register = self.registers.setdefault(key, Register())
        if not register.acts:
            self._groups[_group(key)].append(key)
        act = Act(len(self.acts) + 1, key, len(register.acts) + 1, value, weak)
        self.acts.append(act)
        register.acts.append(act)
        digest = hashlib.sha256((value or "").encode()).hexdigest()[:16]
        self._note(n=act.number, key=key, seq=act.seq, value=value, sha256=digest, weak=weak)
        return act

    def end(self, act: Act, outcome: str, detail: str = "") -> None:
        """One try of ``act`` ended."""
        act.fold(outcome, detail)
        self._note(n=act.number, outcome=outcome, detail=detail)

    async def on_disk(self) -> None:
        """Wait until all that was noted is fsynced: one fsync for everybody who waits."""
        mine = self._noted
        async with self._writing:
            if self._kept < mine:
                await asyncio.to_thread(self._write, *self._take())

    def _note(self, **line: Any) -> None:
        if self._file is not None:
            self._lines.append(json.dumps(line, separators=(",", ":")))
            self._noted += 1

    def _take(self) -> tuple[list[str], int]:
        lines, self._lines = self._lines, []
        return lines, self._noted

    def _write(self, lines: list[str], noted: int) -> None:
        assert self._file is not None
        self._file.write("".join(f"{line}\n" for line in lines))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._kept = noted

    def close(self) -> None:
        """Write what is left."""
        if self._file is not None:
            self._write(*self._take())
            self._file.close()
            self._file = None

    @classmethod
    def read(cls, path: Path) -> "Ledger":
        """A kept file; a last line that was cut off is left out."""
        ledger = cls(None)
        for text in path.read_text().splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                break
            if "key" in line:
                ledger.begin(line["key"], line["value"], weak=line["weak"])
            else:
                ledger.end(ledger.acts[line["n"] - 1], line["outcome"], line["detail"])
        return ledger

    # --- judging ---

    def saw(self, key: str, found: Value) -> Finding | None:
        """``found`` was read from ``key`` while no act on it was under way."""
        register = self.registers.get(key, Register())
        allowed = register.allowed()
        finding: Finding | None = None
        if found in allowed:
            if 0 < allowed[found] < register.seen:
                finding = Finding("back", key, f"act {register.seen} was seen before", found)
            register.seen = max(register.seen, allowed[found])
        else:
            shown = " or ".join(sorted(map(repr, allowed)))
            finding = Finding(_kind(register, found), key, shown, found)
        if finding is not None:
            self.findings.append(finding)
        return finding

    def saw_all(self, found: Mapping[str, Value], group: str) -> None:
        """All that is there of a group (its keys up to their last colon) was read: what is not in ``found`` is not."""
        assert all(_group(key) == group for key in found)
        for key in {*found, *self._groups[group]}:
            self.saw(key, found.get(key))

    def counts(self) -> dict[str, int]:
        """Acts by outcome, and findings by kind."""
        acts = Counter(act.outcome for act in self.acts)
        kinds = Counter(finding.kind for finding in self.findings)
        repeated = sum(act.tries > 1 for act in self.acts)
        base = {OK: acts[OK], FAIL: acts[FAIL], UNKNOWN: acts[UNKNOWN], "repeated": repeated}
        return base | {kind: kinds[kind] for kind in ("lost", "phantom", "back", "late", "double")}

    def require_clean(self) -> None:
        """Fail with the first findings when there is any."""
        shown = "\n  ".join(str(finding) for finding in self.findings[:10])
        assert not self.findings, f"{len(self.findings)} findings in {self.path}:\n  {shown}"


def _group(key: str) -> str:
    return key[: key.rindex(":") + 1] if ":" in key else ""


def _kind(register: Register, found: Value) -> str:
    writers = [act for act in register.acts if act.value == found]
    if any(act.doubted for act in writers):
        return "late"
    if any(act.outcome == OK for act in writers) or found == register.initial:
        return "lost"
    return "phantom"
