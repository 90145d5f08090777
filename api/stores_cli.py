"""``nearhive stores``: import, export, and a look at what is nearest."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

from api.cli_options import HERE, REFUSED, AdminKey, BrandName, Url, brand_path, client_of

_SHOWN_ROWS = 20

stores_app = typer.Typer(no_args_is_help=True, help="Stores of a brand.")


@stores_app.command("import")
def stores_import(
    brand: BrandName,
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True)],
    on_error: Annotated[Literal["refuse", "skip"], typer.Option(help="What a rejected row does.")] = "refuse",
    merge: Annotated[bool, typer.Option("--merge", help="Keep the stores that FILE does not have.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and count only.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="CSV", dir_okay=False, help="Write every finding to this file.")
    ] = None,
    url: Url = HERE,
    admin_key: AdminKey = "",
) -> None:
    """Replace the stores of BRAND by FILE: CSV (.csv .tsv .txt), GeoJSON (.geojson .geojsonl), or JSON of Overpass,
    schema.org or Woosmap (.json .jsonld), each also with .gz."""
    from api.failed import Failed
    from api.progress import Progress
    from api.store_files import media_type_of, pieces_of

    media_type = media_type_of(file)
    if media_type is None:
        _refuse(f"{file.name}: must end in .csv, .tsv, .geojson, .json or the like, perhaps followed by .gz")
    query = {"on_error": on_error, "dry_run": str(dry_run).lower()}
    client, path = client_of(url, admin_key), f"{brand_path(brand)}/stores"
    try:
        with Progress(file.stat().st_size) as progress:
            content = progress.count(pieces_of(file))
            method = "PATCH" if merge else "PUT"
            answer = client.call(method, path, content=content, media_type=media_type, query=query)
    except Failed as failure:
        _print_rows("rejected", failure.problem.get("rejected"), sys.stderr)
        _write_report(report, failure.problem)
        if failure.problem or dry_run or not progress.sent_all:
            raise
        raise Failed(f"{failure}. The new stores are in or the old ones are, whole: import again to be sure") from None
    _print_report(brand, answer, dry_run)
    _write_report(report, answer)


@stores_app.command("export")
def stores_export(
    brand: BrandName,
    file: Annotated[Path, typer.Argument(metavar="FILE", dir_okay=False, writable=True)],
    url: Url = HERE,
    admin_key: AdminKey = "",
) -> None:
    """Write all stores of BRAND to FILE: .csv, .geojson or .json, each also with .gz. An import reads it back."""
    from api.store_files import export_format_of, write_whole

    form = export_format_of(file)
    if form is None:
        _refuse(f"{file.name}: must end in .csv, .geojson or .json, perhaps followed by .gz")
    pieces = client_of(url, admin_key).download(f"{brand_path(brand)}/export", {"format": form})
    print(f"{brand}: {write_whole(file, pieces):,} bytes in {file}")


@stores_app.command("nearest")
def stores_nearest(
    brand: BrandName,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[POINTS.csv]", exists=True, dir_okay=False, help="Columns lat, lon, perhaps id."),
    ] = None,
    lat: Annotated[float | None, typer.Option(min=-90, max=90)] = None,
    lon: Annotated[float | None, typer.Option(min=-180, max=180)] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 5,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Of a file's answers: .csv or .parquet.")
    ] = None,
    url: Url = HERE,
    admin_key: AdminKey = "",
) -> None:
    """The nearest stores of BRAND: of one point, printed; or of every point of a CSV, as CSV or Parquet."""
    client, path = client_of(url, admin_key), f"{brand_path(brand)}/stores/nearest"
    if file is not None:
        from api.store_points import nearest_of_file

        nearest_of_file(client, path, file, out, limit)
        return
    if lat is None or lon is None:
        _refuse("give --lat and --lon, or a CSV of points")
    for feature in client.call("POST", path, body={"lat": lat, "lon": lon, "limit": limit})["features"]:
        shown = feature["properties"]
        place = f"{shown['distance_m'] / 1000:9.3f} km {shown['bearing_deg']:4.0f}°"
        print(f"{place}  {shown['open']['state']:8}{feature['id']}  {shown['name']}")


def _refuse(message: str) -> NoReturn:
    print(f"nearhive: {message}", file=sys.stderr)
    raise typer.Exit(REFUSED)


def _print_report(brand: str, report: dict[str, Any], dry_run: bool) -> None:
    counts = ", ".join(f"{report[name]:,} {name}" for name in ("added", "changed", "removed", "unchanged"))
    found = f"{len(report['rejected']):,} rejected, {len(report['warnings']):,} warnings"
    print(f"{brand}{' (dry run, nothing was changed)' if dry_run else ''}: {counts}; {found}")
    for name in ("rejected", "warnings"):
        _print_rows(name, report[name], sys.stdout)


def _print_rows(name: str, rows: list[dict[str, Any]] | None, file: Any) -> None:
    if not rows:
        return
    print(f"{name}:", file=file)
    for row in rows[:_SHOWN_ROWS]:
        field = f"{row['field']}: " if row["field"] else ""
        print(f"  row {row['row']}: {field}{row['message']}", file=file)
    if len(rows) > _SHOWN_ROWS:
        print(f"  and {len(rows) - _SHOWN_ROWS:,} more", file=file)


def _write_report(file: Path | None, found: dict[str, Any]) -> None:
    if file is None:
        return
    import csv

    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(("kind", "row", "field", "message"))
        for kind in ("rejected", "warnings"):
            rows = found.get(kind) or ()
            writer.writerows((kind, row["row"], row["field"] or "", row["message"]) for row in rows)
