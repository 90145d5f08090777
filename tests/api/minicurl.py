"""What the demo's printed lines need of curl: ``-sS -X METHOD -H HEADER -d BODY URL``. Debian comes without curl."""

import argparse
import sys

import httpx2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-sS", action="store_true")
    parser.add_argument("-X", default="GET")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d")
    parser.add_argument("url")
    given = parser.parse_args()
    headers = dict(header.split(": ", 1) for header in given.H)
    sys.stdout.write(httpx2.request(given.X, given.url, headers=headers, content=given.d, timeout=30).text)


if __name__ == "__main__":
    main()
