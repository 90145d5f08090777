"""CSV as people have it: other names, delimiters, encodings, hours by day, points where they cannot be."""

import pytest

from discovery.errors import Invalid
from discovery.stores.column_names import field_of
from discovery.stores.rows import Finding
from discovery.stores.week import day_hours
from tests.discovery.stores.files import card, read

HEADERS = [
    ("Store ID,Store Name,Latitude,Longitude,Street Address,Town,Country Code,Zip Code,Telephone,URL", ","),
    ("Filialnummer;Bezeichnung;Breitengrad;Längengrad;Anschrift;Ort;Land;PLZ;Telefon;Homepage", ";"),
    ("code\tnom\tlat\tlng\tadresse\tville\tpays\tcode postal\ttéléphone\tsite web", "\t"),
    ("ref|nombre|Y|X|dirección|ciudad|país|código postal|teléfono|web", "|"),
    (
        "storeNumber,storeName,geo_latitude,geo_longitude,addressLine1,locality,addressCountry,postalCode,phoneNumber,link",
        ",",
    ),
]


@pytest.mark.parametrize(("header", "delimiter"), HEADERS, ids=range(len(HEADERS)))
def test_columns_by_their_usual_names(header: str, delimiter: str) -> None:
    values = ["p1", "Le Petit", "48.85", "2.35", "1 rue A", "Paris", "FR", "75001", "+33 1", "https://a.example"]
    found = card(read(f"{header}\n{delimiter.join(values)}\n"), "p1")
    names = ("store_id", "name", "lat", "lon", "address", "city", "country", "postcode", "phone", "website")
    assert [str(found[name]) for name in names] == values


def test_guesses_are_said_and_plainer_names_win() -> None:
    imported = read(
        "id,lat,lon,Shop Name,tz,timezone,address2,address,state\na,48.8,2.3,A,x,Europe/Paris,Floor 2,1 rue A,\n"
    )
    assert imported.findings.warnings == [
        Finding(1, "id", "read as store_id"),
        Finding(1, "Shop Name", "read as name"),
        Finding(1, "tz", "ignored: timezone is read as timezone"),
        Finding(1, "address2", "read as a part of address"),
        Finding(1, "state", "not a field of a store: ignored"),
    ]
    assert card(imported, "a")["address"] == "1 rue A, Floor 2"


@pytest.mark.parametrize(
    ("country", "expected"), [("DE", "Hauptstraße 5"), ("", "Hauptstraße 5"), ("fr", "5 Hauptstraße")]
)
def test_street_and_number_in_the_order_of_the_country(country: str, expected: str) -> None:
    text = f"id,lat,lon,street,house number,country\na,50.1,8.6,Hauptstraße,5,{country}\n"
    assert card(read(text), "a")["address"] == expected


@pytest.mark.parametrize("text", ["48.85, 2.35", "(48.85 2.35)", "POINT (2.35 48.85)", "SRID=4326;POINT(2.35 48.85)"])
def test_both_coordinates_in_one_column(text: str) -> None:
    found = card(read(f'id,coordinates\na,"{text}"\n'), "a")
    assert (found["lat"], found["lon"]) == (48.85, 2.35)
    bad = read(f'id,coordinates\na,"{text}"\nb,somewhere\nc,\n').findings.rejected
    assert bad == [Finding(3, "lat", "not a number of degrees such as 48.8566"), Finding(4, "lat", "missing")]


def test_excel_in_europe() -> None:
    """Its first line, semicolons, decimal commas, Windows-1252, and an empty row at the end."""
    text = "sep=;\r\nid;Name;lat;lon\r\na;Bäckerei Müller – Köln;50,9375;6,9603\r\nb;B;x;1\r\n;;;\r\n"
    imported = read(text.encode("cp1252"))
    assert card(imported, "a")["name"] == "Bäckerei Müller – Köln"
    assert card(imported, "a")["lat"] == 50.9375
    assert imported.findings.rejected == [Finding(4, "lat", "not a number of degrees such as 48.8566")]
    assert [finding.message[:45] for finding in imported.findings.warnings if finding.row == 0] == [
        "the file is not UTF-8: read as cp1252; charse"
    ]


NAMES = [
    "Пекарня на Тверской улице",
    "北京王府井大街一百三十八号的店铺",
    "東京都渋谷区道玄坂の店舗です",
]


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        *((encoding, NAMES[0]) for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1251")),
        *((encoding, NAMES[1]) for encoding in ("utf-8", "utf-32", "gb18030")),
        *((encoding, NAMES[2]) for encoding in ("utf-8", "cp932", "utf-16")),
    ],
)
def test_encodings_are_found_out(encoding: str, name: str) -> None:
    lines = "".join(f"s{row},{name},{name},{row / 10},{row / 10}\n" for row in range(1, 30))
    found = card(read(f"id,name,city,lat,lon\n{lines}".encode(encoding)), "s7")
    assert (found["name"], found["city"]) == (name, name)


def test_a_stated_charset_is_believed() -> None:
    text = "id,name,lat,lon\na,Żółta Łódź,51.7,19.4\n".encode("cp1250")
    assert card(read(text, "text/csv; charset=windows-1250"), "a")["name"] == "Żółta Łódź"


WEEK = "Mo-Fr 09:00-18:00; Sa 10:00-14:00; Su off"
DAYS = [
    "Mon,Tue,Wed,Thu,Fri,Sat,Sun",
    "monday_hours,tuesday_hours,wednesday_hours,thursday_hours,friday_hours,saturday_hours,sunday_hours",
    "hoursMonday,hoursTuesday,hoursWednesday,hoursThursday,hoursFriday,hoursSaturday,hoursSunday",
    "Montag,Dienstag,Mittwoch,Donnerstag,Freitag,Samstag,Sonntag",
    "Mo,Di,Mi,Do,Fr,Sa,So",
    "lundi,mardi,mercredi,jeudi,vendredi,samedi,dimanche",
    "lunes,martes,miércoles,jueves,viernes,sábado,domingo",
]


@pytest.mark.parametrize("days", DAYS)
def test_one_column_a_day(days: str) -> None:
    text = f"id,lat,lon,timezone,{days}\na,48.8,2.3,Europe/Paris,{'9:00-18:00,' * 5}10am - 2pm,closed\n"
    imported = read(text)
    assert card(imported, "a")["opening_hours"] == WEEK
    assert imported.stores.hours_rows[0] >= 0
    assert [finding for finding in imported.findings.warnings if finding.field != "name"] == [
        Finding(1, "id", "read as store_id")
    ]


def test_two_columns_a_day_and_days_not_said() -> None:
    pairs = ",".join(f"{day} open,{day} close" for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun"))
    text = f"id,lat,lon,{pairs}\na,48.8,2.3,{'09:00,18:00,' * 5}10:00,14:00,Closed,\nb,48.8,2.4{',' * 14}\n"
    text += f"c,48.8,2.5,22:00,02:00,sometimes,later{',' * 10}\n"
    imported = read(text)
    assert card(imported, "a")["opening_hours"] == WEEK
    assert card(imported, "b")["opening_hours"] is None
    assert card(imported, "c")["opening_hours"] == "Mo 22:00-02:00; Tu-Su unknown"
    assert Finding(4, "tue open", "not hours such as 09:00-18:00 or closed: that day is unknown") in (
        imported.findings.warnings
    )


HOURS = [
    ("9:00-18:00", "09:00-18:00"),
    ("9am-5pm", "09:00-17:00"),
    ("9-5pm", "09:00-17:00"),
    ("1-5pm", "13:00-17:00"),
    ("9:30 a.m. – 12 p.m., 1 PM to 6:15 PM", "09:30-12:00,13:00-18:15"),
    ("08.30 - 12.00 / 14.00 - 18.30 Uhr", "08:30-12:00,14:00-18:30"),
    ("9h-12h30 et 14h-19h", "09:00-12:30,14:00-19:00"),
    ("22:00-02:00", "22:00-02:00"),
    ("12am-12am", None),
    ("00:00-23:59", "00:00-24:00"),
    ("Open 24 Hours", "00:00-24:00"),
    ("CLOSED", "off"),
    ("-", "off"),
    ("9:00-25:00", None),
    ("9-18, later maybe", None),
    ("by appointment", None),
    ("", None),
    ("9-17 " * 100, None),
]


@pytest.mark.parametrize(("text", "expected"), HOURS)
def test_hours_of_a_day(text: str, expected: str | None) -> None:
    assert day_hours(text) == expected


@pytest.mark.parametrize("name", ["", "state", "colour", "monday", "brand", "opened", "ownership"])
def test_names_that_are_no_field(name: str) -> None:
    assert field_of(name) is None


SWAPPED = "not in FR, but it would be with lat and lon exchanged: are they swapped?"
WHERE = [
    ("48.85,2.35,FR,", None),
    ("48.85,2.35,DE,", Finding(2, "country", "the point is not in DE, but in FR")),
    ("48.85,-20.0,FR,", Finding(2, "country", "the point is not in FR, but at sea")),
    ("2.35,48.85,FR,", Finding(2, "lat", SWAPPED)),
    ("2.35,48.85,,Europe/Paris", Finding(2, "lat", SWAPPED)),
    ("52.5,13.4,,Europe/Paris", None),
    ("18.4,-66.1,US,", None),
    ("48.57,7.82,FR,", None),  # Kehl, 2 km beyond the Rhine: borders are not that sharp
    ("54.15,-4.48,GB,", None),
    ("0,0,FR,", Finding(2, "lat", "0, 0 is in the Gulf of Guinea: is the point missing?")),
    ("22.3,114.17,CN,", None),
    ("-16.5,179.99,FJ,", None),
    ("-89.99,179.99,AQ,", None),
]  # fmt: skip


@pytest.mark.parametrize(("row", "finding"), WHERE)
def test_points_where_they_cannot_be(row: str, finding: Finding | None) -> None:
    imported = read(f"store_id,name,lat,lon,country,timezone\na,A,{row}\n")
    assert imported.findings.warnings == ([finding] if finding else [])
    assert len(imported.stores) == 1


def test_shared_points_name_the_first_row() -> None:
    points = ["1,1", "2,2", "1,1", "1,2", "2,2", "1.0,1", "0,0", "0,0"]
    imported = read("store_id,name,lat,lon\n" + "".join(f"s{n},N,{point}\n" for n, point in enumerate(points)))
    assert [finding for finding in imported.findings.warnings if "same point" in finding.message] == [
        Finding(4, "lat", "the same point as row 2"),
        Finding(6, "lat", "the same point as row 3"),
        Finding(7, "lat", "the same point as row 2"),
    ]


def test_time_zones_as_some_systems_write_them() -> None:
    text = "store_id,name,lat,lon,timezone\na,A,48.8,2.3,GMT+1:00 Europe/Paris\nb,B,48.8,2.4,GMT+08:00 Asia/Beijing\n"
    imported = read(text)
    assert card(imported, "a")["timezone"] == "Europe/Paris"
    assert imported.findings.warnings == [Finding(2, "timezone", "not an IANA time zone: Europe/Paris is used")]
    assert imported.findings.rejected == [Finding(3, "timezone", "not an IANA time zone such as Europe/Paris")]


def test_findings_beyond_what_is_listed_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discovery.stores.rows.MAX_LISTED", 3)
    rows = "".join(f"{n},north,1\n" for n in range(5)) + "".join(f",{n},1\n" for n in range(4))
    imported = read("store_id,lat,lon\n" + rows)
    findings = imported.findings
    assert (findings.rejected_rows, imported.rows_read) == (5, 9)
    assert findings.rejected_json()[3:] == [
        {"row": 0, "field": "lat", "message": "2 further findings like these are not listed"}
    ]
    assert sum(int(str(one["message"]).split()[0]) for one in findings.warnings_json()[3:]) == 8 - 3


@pytest.mark.parametrize("header", ["coordinates", "id,name", "lat", "mon,tue,wed"])
def test_no_point_in_the_header(header: str) -> None:
    if header == "coordinates":
        assert read("coordinates\n1 2\n").rows_read == 1
        return
    with pytest.raises(Invalid, match="no column"):
        read(f"{header}\n1\n")
