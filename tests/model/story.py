"""Acts on the product and on the model, side by side: every answer compared, and what is folded now and then."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import orjson

from discovery.store import keys
from tests.model.acts import AGELESS, MINOR, ONE_HUMAN, USERS, Act
from tests.model.bottle_model import BottleModel
from tests.model.product import Answer, Product
from tests.model.world_model import Refusal, Token, WorldModel, instant
from tests.world import EPOCH_MS, SECRET


class Divergence(AssertionError):
    """The product and the model, or two workers, differ."""


class Story:
    """One sequence with people of its own."""

    def __init__(self, product: Product, name: str) -> None:
        self.product = product
        self.users = [f"{name}u{number}" for number in range(USERS)]
        ages = {MINOR: "minor", AGELESS: None}
        tokens = {
            user: Token(ages.get(number, "adult"), f"{name}h" if number in ONE_HUMAN else None)
            for number, user in enumerate(self.users)
        }
        self.model = WorldModel(tokens, SECRET, EPOCH_MS)
        self.model.at(product.now_ms)
        self.sea = BottleModel(self.model)
        self.keys: dict[tuple[str, str], str] = {}  # (user, kind of act) -> the last key
        self.shake_ids: dict[tuple[str, str], str] = {}
        self.serial = count()
        self.met: Counter[str] = Counter()  # statuses, and answers that show something

    async def step(self, act: Act) -> None:
        """Do one act on both. Raises Divergence."""
        name, args = act
        args = {**args, "u": self.users[args["u"]]}
        if "v" in args:
            args["v"] = self.users[args["v"]]
        await getattr(self, f"do_{name}")(**args)

    # --- asking ---

    async def ask(self, w: int, user: str, method: str, path: str, body: Any = None, key: str | None = None) -> Answer:
        await self.product.sync()
        return await self.product.ask(w, user, self.model.tokens[user], method, path, body, key)

    async def read(self, user: str, path: str) -> Answer:
        """From both workers, which must agree byte for byte."""
        one, two = [await self.ask(w, user, "GET", path) for w in (0, 1)]
        if one != two:
            raise Divergence(f"two workers differ on GET {path} by {user}: {one} {two}")
        return one

    def compare(self, answer: Answer, model: Callable[[], Any], status: int = 200, drop: Sequence[str] = ()) -> Any:
        """The answer is what the model says; ``drop``: what only the product knows. Returns the answer's body."""
        try:
            expected: tuple[int, Any] = status, model()
        except Refusal as refusal:
            expected = refusal.status, refusal.code
        found_status, content = answer
        body = orjson.loads(content) if content else None
        found: Any = body["code"] if body and found_status >= 400 else _without(body, drop)
        if (found_status, found) != expected:
            raise Divergence(f"the product answers {found_status} {found}, the model {expected[0]} {expected[1]}")
        self.met[str(found_status)] += 1
        return body

    def key(self, user: str, kind: str, *, again: bool) -> str:
        """A new Idempotency-Key, or the one used last."""
        if not again or (user, kind) not in self.keys:
            self.keys[user, kind] = f"{kind}{next(self.serial)}"
        return self.keys[user, kind]

    def until(self, until_s: int | None) -> int | None:
        return None if until_s is None else self.model.now_ms + 1000 * until_s

    # --- people ---

    async def do_move(self, w: int, u: str, point: tuple[float, float], accuracy_m: float | None, ttl_s: int) -> None:
        if self.model.unclear(u, point, accuracy_m):
            return
        body = _given({"lat": point[0], "lon": point[1], "accuracy_m": accuracy_m, "ttl_s": ttl_s})
        answer = await self.ask(w, u, "PUT", "/v1/me/position", body)
        self.compare(answer, lambda: self.model.put_position(u, point, accuracy_m, ttl_s))

    async def do_see_position(self, w: int, u: str) -> None:
        self.compare(await self.read(u, "/v1/me/position"), lambda: self.model.position(u))

    async def do_clear(self, w: int, u: str) -> None:
        self.compare(await self.ask(w, u, "DELETE", "/v1/me/position"), lambda: self.model.clear(u), 204)

    async def do_settings(
        self, w: int, u: str, visibility: str | None, until_s: int | None, bottles: bool | None
    ) -> None:
        until_ms = self.until(until_s)
        on_off = {None: None, True: "on", False: "off"}[bottles]
        body = _given({"visibility": visibility, "visible_until": instant(until_ms), "bottles": on_off})
        answer = await self.ask(w, u, "PATCH", "/v1/me/settings", body)
        self.compare(answer, lambda: self.model.change_settings(u, visibility, until_ms, bottles))
        self.compare(await self.read(u, "/v1/me/settings"), lambda: self.model.settings(u))

    async def do_befriend(self, w: int, u: str, v: str, precision: str, until_s: int | None, both: bool) -> None:
        until_ms = self.until(until_s)
        for user, other in ((u, v), (v, u))[: 1 + both]:
            body = _given({"precision": precision, "until": instant(until_ms)})
            answer = await self.ask(w, user, "PUT", f"/v1/me/friends/{other}", body)
            self.compare(answer, lambda a=user, b=other: self.model.befriend(a, b, precision, until_ms))  # type: ignore[misc]

    async def do_unfriend(self, w: int, u: str, v: str) -> None:
        self.compare(await self.ask(w, u, "DELETE", f"/v1/me/friends/{v}"), lambda: self.model.unfriend(u, v), 204)

    async def do_friends(self, w: int, u: str) -> None:
        self.compare(await self.read(u, "/v1/me/friends"), lambda: self.model.friend_list(u))

    async def do_block(self, w: int, u: str, v: str) -> None:
        if self.users.index(u) in ONE_HUMAN and self.users.index(v) in ONE_HUMAN:
            return  # nobody meets themselves; whether they may block themselves is nobody's rule
        self.compare(await self.ask(w, u, "PUT", f"/v1/me/blocks/{v}"), lambda: self.model.block(u, v), 204)

    async def do_unblock(self, w: int, u: str, v: str, n: int) -> None:
        names = sorted(self.model.blocks.get(u, {}))
        name = names[n % len(names)] if names else v
        self.compare(await self.ask(w, u, "DELETE", f"/v1/me/blocks/{name}"), lambda: self.model.unblock(u, name), 204)

    async def do_blocks(self, w: int, u: str) -> None:
        found = await self.pages(u, "/v1/me/blocks?limit=2", "blocks", 2)
        self.same(found, [{"user": name} for name in sorted(self.model.blocks.get(u, {}))])

    async def pages(self, user: str, path: str, what: str, limit: int, drop: Sequence[str] = ()) -> list[Any]:
        """All of a list; every page but the last is full."""
        found: list[Any] = []
        cursor = ""
        while True:
            body = orjson.loads((await self.read(user, path + cursor))[1])
            found += [_without(row, drop) for row in body[what]]
            if body["next_cursor"] is None:
                return found
            if len(body[what]) != limit:
                raise Divergence(f"a page of {len(body[what])} before the end of {path}")
            cursor = f"&cursor={body['next_cursor']}"

    def same(self, found: Any, expected: Any) -> None:
        if found != expected:
            raise Divergence(f"the product answers {found}, the model {expected}")

    # --- the app's backend ---

    async def app(self, w: int, method: str, path: str, body: Any) -> Answer:
        await self.product.sync()
        return await self.product.ask_as_operator(w, method, path, body)

    async def do_app_positions(self, w: int, u: str, rows: list[dict[str, Any]]) -> None:
        sent = []
        for row in rows:
            user, point = self.users[row["u"]], row["point"]
            if self.model.unclear(user, point, row["accuracy_m"]):
                return
            sent.append(
                _given(
                    {
                        "user": user,
                        "lat": point[0],
                        "lon": point[1],
                        "accuracy_m": row["accuracy_m"],
                        "ttl_s": row["ttl_s"],
                    }
                )
            )
        answer = await self.app(w, "POST", "/v1/app/positions", {"positions": sent})
        self.compare(answer, lambda: self.model.app_positions(sent), drop=["message"])

    async def do_app_pairs(self, w: int, u: str, rows: list[dict[str, Any]]) -> None:
        pairs = [{**row, "a": self.users[row["a"]], "b": self.users[row["b"]]} for row in rows]
        answer = await self.app(w, "POST", "/v1/app/friendships", {"pairs": pairs})
        self.compare(answer, lambda: self.model.pair_by_app(pairs))

    async def do_app_user(
        self,
        w: int,
        u: str,
        visibility: str | None,
        consent: bool,
        age: str | None,
        suspended: dict[str, int] | None,
    ) -> None:
        until_ms = None if suspended is None else {name: self.model.now_ms + 1000 * s for name, s in suspended.items()}
        rows = None if until_ms is None else [{"feature": f, "until": instant(ms)} for f, ms in until_ms.items()]
        given = {"version": "1", "at": "2026-11-22T08:00:00Z"} if consent else None
        body = _given({"visibility": visibility, "consent": given, "age": age, "suspended": rows})
        answer = await self.app(w, "PUT", f"/v1/app/users/{u}", body)
        self.compare(answer, lambda: self.model.change_by_app(u, visibility, consent, age, until_ms))

    # --- who sees whom ---

    async def do_nearby(self, w: int, u: str, radius_m: int, limit: int) -> None:
        path = f"/v1/nearby?radius_m={radius_m}&limit={limit}"
        status, content = await self.read(u, path)
        if status != 200:
            self.compare((status, content), lambda: self.model.nearby(u, radius_m))
            return
        body = orjson.loads(content)
        epoch = {"radius_m": radius_m, "epoch_at": instant(self.model.stranger_edge_ms)}
        self.same(_without(body, ["people", "next_cursor"]), epoch)
        found = await self.pages(u, path, "people", limit)
        self.compare((200, orjson.dumps(found)), lambda: self.model.nearby(u, radius_m))
        self.met["neighbours"] += len(found)

    async def do_radar(self, w: int, u: str, radius_m: int) -> None:
        answer = await self.read(u, f"/v1/radar?radius_m={radius_m}")
        body = self.compare(answer, lambda: self.model.radar(u, radius_m), drop=["geometry"])
        self.met["blips"] += len(body.get("friends", ()))

    # --- shakes ---

    async def do_shake(
        self, w: int, u: str, others: list[int], point: tuple[float, float], reach: str, limit: int, again: bool
    ) -> None:
        """One after the other, at one place."""
        for user in (u, *(self.users[other] for other in others)):
            await self._shake(w, user, point, reach, limit, again)

    async def _shake(self, w: int, u: str, point: tuple[float, float], reach: str, limit: int, again: bool) -> None:
        if self.model.unclear(u, point, None):
            return
        key = self.key(u, "shake", again=again)
        body = {"lat": point[0], "lon": point[1], "reach": reach, "limit": limit}
        answer = await self.ask(w, u, "POST", "/v1/shakes", body, key)
        found = self.compare(answer, lambda: self.model.shake(u, key, point, reach, limit), 201, drop=["shake_id"])
        if answer[0] == 201:
            self.same(found["shake_id"], self.shake_ids.setdefault((u, key), found["shake_id"]))
            self.met["matches"] += len(found["matches"])

    async def do_look(self, w: int, u: str, n: int) -> None:
        if self.shake_ids:
            user, key = list(self.shake_ids)[-1 - n % len(self.shake_ids)]
            answer = await self.read(user, f"/v1/shakes/{self.shake_ids[user, key]}")
            self.compare(answer, lambda: self.model.shake_read(user, key), drop=["shake_id"])

    # --- bottles ---

    async def do_throw(self, w: int, u: str, text: str, again: bool) -> None:
        key = self.key(u, "throw", again=again)
        answer = await self.ask(w, u, "POST", "/v1/bottles", {"text": text}, key)
        body = orjson.loads(answer[1])

        def model() -> Any:
            self.sea.require_on(u)
            bottle_id = self.sea.known(u, key, ("throw", text))
            day = body.get("resets_at", "")
            if bottle_id is None:
                if self.sea.left(u, "throws", day) <= 0:
                    raise Refusal(429, "quota_exceeded")
                self.sea.thrown(u, key, text, bottle_id := body["bottle_id"], day)
            return {"bottle_id": bottle_id, "throws_left": self.sea.left(u, "throws", day)}

        self.compare(answer, model, 201, drop=["expires_at", "resets_at"])

    async def do_pick(self, w: int, u: str, again: bool) -> None:
        key = self.key(u, "pick", again=again)
        answer = await self.ask(w, u, "POST", "/v1/bottles/pick", None, key)
        body = orjson.loads(answer[1])

        def model() -> Any:
            self.sea.require_on(u)
            day = body.get("resets_at", "")
            bottle_id, reason = self.sea.known(u, key, "pick"), None
            if bottle_id is None:
                if self.sea.left(u, "picks", day) <= 0:
                    raise Refusal(429, "quota_exceeded")
                bottle_id, reason = self._picked(u, key, body, day)
            elif self.sea.bottles[bottle_id].holder != u or not self.sea.may_read(u, bottle_id):
                bottle_id = None
            bottle = None if bottle_id is None else self.sea.view(u, bottle_id)
            return {"bottle": bottle, "reason": reason, "picks_left": self.sea.left(u, "picks", day)}

        self.compare(answer, model, drop=["resets_at", "thrown_at", "at"])

    def _picked(self, user: str, key: str, body: Any, day: str) -> tuple[str | None, str | None]:
        """What was drawn, if it may be."""
        may = self.sea.admissible(user)
        if not may:
            return None, "sea_empty"
        bottle_id = (body.get("bottle") or {}).get("bottle_id")
        if bottle_id not in may:
            raise Divergence(f"{user} picked {bottle_id}, and may have only {may}")
        self.sea.took(user, key, bottle_id, day)
        self.met["picks"] += 1
        return bottle_id, None

    def chosen(self, u: str, n: int, by: str) -> tuple[str, str] | None:
        """Who, and which bottle, counted from the last; for its holder of those that are held, if any."""
        held = [bottle_id for bottle_id, bottle in self.sea.bottles.items() if bottle.holder]
        among = held if held and by == "holder" else list(self.sea.bottles)
        if not among:
            return None
        bottle_id = among[-1 - n % len(among)]
        bottle = self.sea.bottles[bottle_id]
        return {"holder": bottle.holder or u, "author": bottle.author, "u": u}[by], bottle_id

    async def do_throw_back(self, w: int, u: str, n: int, by: str) -> None:
        if (found := self.chosen(u, n, by)) is not None:
            user, bottle_id = found
            answer = await self.ask(w, user, "POST", f"/v1/bottles/{bottle_id}/throw-back")
            self.compare(answer, lambda: self.sea.throw_back(user, bottle_id), 204)

    async def do_reply(self, w: int, u: str, n: int, by: str, text: str, again: bool) -> None:
        if (found := self.chosen(u, n, by)) is not None:
            user, bottle_id = found
            key = self.key(user, "reply", again=again)
            answer = await self.ask(w, user, "POST", f"/v1/bottles/{bottle_id}/replies", {"text": text}, key)
            self.compare(answer, lambda: self.sea.reply(user, key, bottle_id, text), 201, drop=["thrown_at", "at"])
            self.met["replies"] += answer[0] == 201

    async def do_block_other(self, w: int, u: str, n: int, by: str) -> None:
        if (found := self.chosen(u, n, by)) is not None:
            user, bottle_id = found
            answer = await self.ask(w, user, "POST", f"/v1/bottles/{bottle_id}/block")
            self.compare(answer, lambda: self.sea.block_other(user, bottle_id), 204)

    async def do_delete_bottle(self, w: int, u: str, n: int, by: str) -> None:
        if (found := self.chosen(u, n, by)) is not None:
            user, bottle_id = found
            answer = await self.ask(w, user, "DELETE", f"/v1/bottles/{bottle_id}")
            self.compare(answer, lambda: self.sea.delete(user, bottle_id), 204)

    async def do_see_bottle(self, w: int, u: str, n: int, by: str) -> None:
        if (found := self.chosen(u, n, by)) is not None:
            user, bottle_id = found
            answer = await self.read(user, f"/v1/bottles/{bottle_id}")
            self.compare(answer, lambda: self.sea.read(user, bottle_id), drop=["thrown_at", "at"])

    async def do_my_bottles(self, w: int, u: str, limit: int) -> None:
        await self.sweep()
        found = await self.pages(u, f"/v1/me/bottles?limit={limit}", "bottles", limit, drop=["expires_at"])
        self.same(found, self.sea.mine(u))

    async def sweep(self) -> None:
        """The list shows what is stored; nobody passes by a quiet sea but the sweeper."""
        while await self.product.workers[0].hive.bottles.sweep():
            pass

    async def do_lapse(self, w: int, u: str, n: int) -> None:
        """A hold is over."""
        if (found := self.chosen(u, n, "u")) is not None and self.sea.bottles[found[1]].state == "picked":
            await self._put_to_the_past(found[1], "until", keys.sea_holds())
            self.sea.to_sea(found[1])

    async def do_end(self, w: int, u: str, n: int) -> None:
        """A bottle's life is over."""
        found = self.chosen(u, n, "u")
        if found is not None and self.sea.bottles[found[1]].state not in ("expired", "deleted"):
            await self._put_to_the_past(found[1], "ends", keys.sea_ends())
            self.sea.end(found[1])

    async def _put_to_the_past(self, bottle_id: str, field: str, due: str) -> None:
        await self.product.state.call("HSET", keys.sea_bottle(bottle_id), field, 1)
        await self.product.state.call("ZADD", due, 1, bottle_id)

    # --- time, workers ---

    async def do_later(self, w: int, u: str, ms: int) -> None:
        await self.product.at(self.product.now_ms + ms)
        self.model.at(self.product.now_ms)
        self.check_digests()

    async def do_checkpoint(self, w: int, u: str, share: float) -> None:
        await self.product.sync()
        shards = range(self.product.shards)
        await self.product.checkpoint(w, list(shards)[: max(1, round(share * len(shards)))])

    async def do_doubt(self, w: int, u: str, n: int) -> None:
        await self.product.doubt(w, n % self.product.shards)

    async def do_restart(self, w: int, u: str, which: list[int]) -> None:
        await self.product.sync()
        await self.product.restart(which)

    # --- what must hold ---

    def check_digests(self) -> None:
        """Of people at the edges that both workers crossed together, and of shakes now."""
        one, two = (worker.hive for worker in self.product.workers)
        common = one.presence.digests.keys() & two.presence.digests.keys()
        self.same([one.presence.digests[edge] for edge in common], [two.presence.digests[edge] for edge in common])
        self.same(one.status()["shake_digest"], two.status()["shake_digest"])

    async def check_folded(self) -> None:
        """Both workers hold of everybody what the model holds; blocks act both ways."""
        await self.product.sync()
        for worker in self.product.workers:
            people, presence = worker.hive.people, worker.hive.presence
            for user in self.users:
                mine, slot = self.model.person(user), people.slot(user)
                expected = mine.published, mine.stranger, mine.pending, mine.live_until_ms, mine.seen_ms
                columns = (
                    presence.published,
                    presence.stranger,
                    presence.pending,
                    presence.live_until_ms,
                    presence.seen_ms,
                )
                found = tuple(int(column[slot]) for column in columns) if slot is not None else (0,) * 5
                if found != expected:
                    raise Divergence(f"of {user} the product holds {found}, the model {expected}")
        counts = [worker.hive.presence.count_live(self.product.now_ms) for worker in self.product.workers]
        self.same(counts, [sum(self.model.live(user) for user in self.users)] * 2)
        self._check_blocks()

    def _check_blocks(self) -> None:
        for worker in self.product.workers:
            hive = worker.hive
            for user in self.users:
                for other in hive.blocked_either_way(user):
                    if user not in hive.blocked_either_way(other) or not self.model.must_not_meet(user, other):
                        raise Divergence(f"{other} must not meet {user}, not the other way")


def _given(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def _without(body: Any, drop: Sequence[str]) -> Any:
    """A body without some members, at any depth."""
    if isinstance(body, dict):
        return {name: _without(value, drop) for name, value in body.items() if name not in drop}
    return [_without(one, drop) for one in body] if isinstance(body, list) else body
