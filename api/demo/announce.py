"""What is printed once the demo is ready: where it is, the keys, and one line to paste for each feature."""

from collections.abc import Iterator

from api.demo.population import NEAR, PEOPLE, YOU, YOU_LAT, YOU_LON
from api.demo.shop import BRAND, BRAND_NAME

TOKEN_TTL_S = 12 * 3600

_JSON = "-H 'Content-Type: application/json'"
_POINT = f'{{"lat": {YOU_LAT}, "lon": {YOU_LON}}}'
_SHAKE_ID = """sed 's/.*"shake_id": *"\\([0-9a-f]*\\)".*/\\1/'"""


def announcement(url: str, token: str, brand_key: str) -> str:
    """The whole text. Each curl line stands for itself, so that any one can be pasted into any shell."""
    head = [
        "",
        f"Nearhive is ready at {url}",
        f"API documentation: {url}/docs",
        f"A simulated world: {PEOPLE:,} simulated people, {NEAR} of them within 20 km of `{YOU}` in Paris;",
        f'and the brand `{BRAND}`, "{BRAND_NAME}". Ctrl-C ends everything.',
        "",
        f"TOKEN={token}",
        f"BRAND_KEY={brand_key}",
    ]
    lines = [part for title, line in _curls(url, token, brand_key) for part in ("", f"# {title}", line)]
    return "\n".join([*head, *lines, "", "# what is running, and whether all workers agree", "nearhive doctor", ""])


def _curls(url: str, token: str, brand_key: str) -> Iterator[tuple[str, str]]:
    me = f"-H 'Authorization: Bearer {token}'"
    shake, waited = (
        f"curl -sS -X POST '{url}/v1/shakes' {me} {_key(name)} {_JSON} -d '{_POINT}'" for name in ("shake", "wait")
    )
    yield f"nearby: strangers around `{YOU}`", f"curl -sS '{url}/v1/nearby?radius_m=5000&limit=10' {me}"
    yield f"radar: the friends of `{YOU}`", f"curl -sS '{url}/v1/radar?radius_m=10000' {me}"
    yield "shake: somebody near shakes every 2 s", shake
    yield (
        "shake, and wait for a match: the id of a new shake goes into the address",
        f'curl -sS "{url}/v1/shakes/$({waited} | {_SHAKE_ID})?wait_s=5" {me}',
    )
    throw = '{"text": "Hello from Paris"}'
    yield "bottle: throw one", f"curl -sS -X POST '{url}/v1/bottles' {me} {_key('throw')} {_JSON} -d '{throw}'"
    yield "bottle: pick one", f"curl -sS -X POST '{url}/v1/bottles/pick' {me} {_key('pick')}"
    yield (
        "stores: the nearest that are open now",
        f"curl -sS -X POST '{url}/v1/brands/{BRAND}/stores/nearest' -H 'X-API-Key: {brand_key}' {_JSON}"
        f' -d \'{{"lat": {YOU_LAT}, "lon": {YOU_LON}, "limit": 3, "open": "now"}}\'',
    )


def _key(name: str) -> str:
    """A new key each second, another for each line: one key names one act. `date` is in every shell."""
    return f'-H "Idempotency-Key: {name}-$(date +%s)"'
