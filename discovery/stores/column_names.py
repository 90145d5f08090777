"""Which field a column, or a member of a JSON object, of a foreign file is: by its name, as people name them."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

STREET, HOUSE_NUMBER, MORE_ADDRESS, POINT = "street", "house_number", "more_address", "point"
"""What is no field of its own: parts of ``address``, and both coordinates in one text."""

_NAMES: Mapping[str, str] = {
    "store_id": """storeid id storenumber storeno storenum storenr storecode code ref reference locationid locationcode
        branchid branchcode shopid siteid placeid outletid externalid filialnr filialnummer filialid uid guid uuid
        osmid""",
    "name": """name storename title locationname branchname shopname businessname outletname displayname label nom
        nombre nome bezeichnung filiale naam""",
    "lat": """lat latitude y ycoord ycoordinate coordy geolat geolatitude gpslat gpslatitude locationlat latdeg latwgs84
        latitud latitudine breitengrad breite breedtegraad""",
    "lon": """lon lng long longitude x xcoord xcoordinate coordx geolon geolng geolong geolongitude gpslon gpslng
        gpslong gpslongitude locationlng locationlon londeg lonwgs84 longitud longitudine langengrad laengengrad lange
        lengtegraad""",
    "address": """address fulladdress addrfull addressfull addr adresse direccion indirizzo endereco adres anschrift
        formattedaddress""",
    STREET: """street streetaddress streetname addressline1 addressline address1 streetaddress1 addrstreet
        addrstreetaddress addressstreet road strasse rue calle via straat""",
    HOUSE_NUMBER: "housenumber houseno addrhousenumber streetnumber streetno hausnummer hausnr huisnummer civico",
    MORE_ADDRESS: "address2 addressline2 streetaddress2 address3 addressline3 unit suite",
    "city": """city town locality cityname addrcity addresscity addresslocality municipality ville ort stadt ciudad
        citta cidade plaats localidad commune""",
    "country": "country countrycode countryiso isocountry iso2 addrcountry addresscountry land pays pais paese",
    "postcode": """postcode zip zipcode postalcode postal addrpostcode addresspostalcode plz postleitzahl codepostal cp
        cap codigopostal""",
    "phone": """phone telephone tel phonenumber telephonenumber phone1 telefon telefono telefone telefonnummer
        contactphone""",
    "website": "website url web homepage link webpage storeurl storelink websiteurl siteweb contactwebsite weburl",
    "opening_hours": """openinghours hours openhours openingtimes businesshours storehours workinghours operatinghours
        horaires oeffnungszeiten offnungszeiten horario horarios orari openingstijden""",
    "timezone": "timezone tz tzid tzname timezoneid timezonename ianatimezone olsontimezone zeitzone",
    "services": "services service amenities features facilities serviceoptions servicios leistungen prestations",
    "tags": "tags attributes customfields",
    POINT: "latlng latlon latlong coordinates coordinate coords geopoint gps gpscoordinates geocoordinates wkt geom "
    "geometry thegeom point location geolocation",
}
_FIELD_OF = {name: field for field, names in _NAMES.items() for name in names.split()}
# The first name of a list is the plainest: where two columns are the same field, the plainer one is read.
_RANK = {name: rank for names in _NAMES.values() for rank, name in enumerate(names.split())}

_DAYS: Sequence[Sequence[str]] = (
    ("monday mon mo", "tuesday tue tues tu", "wednesday wed we", "thursday thu thur thurs th", "friday fri fr",
     "saturday sat sa", "sunday sun su"),
    ("montag mo", "dienstag di", "mittwoch mi", "donnerstag do", "freitag fr", "samstag sonnabend sa", "sonntag so"),
    ("lundi lun lu", "mardi mar ma", "mercredi mer me", "jeudi jeu je", "vendredi ven ve", "samedi sam sa",
     "dimanche dim di"),
    ("lunes lun lu", "martes mar ma", "miercoles mie mi", "jueves jue ju", "viernes vie vi", "sabado sab sa",
     "domingo dom do"),
    ("lunedi lun", "martedi mar", "mercoledi mer", "giovedi gio", "venerdi ven", "sabato sab", "domenica dom"),
    ("maandag ma", "dinsdag di", "woensdag wo", "donderdag do", "vrijdag vr", "zaterdag za", "zondag zo"),
    ("segunda segundafeira", "terca tercafeira", "quarta quartafeira", "quinta quintafeira", "sexta sextafeira",
     "sabado", "domingo"),
)  # fmt: skip
_LANGUAGES = tuple({name: day for day, names in enumerate(days) for name in names.split()} for days in _DAYS)
_WORDS_OF_HOURS = frozenset({"hours", "hour", "times", "time", "opening", "business", "store", "day", "working"})
_OPENS = frozenset({"open", "opens", "opening", "from", "start", "starts", "begin"})
_CLOSES = frozenset({"close", "closes", "closing", "to", "until", "till", "end", "ends"})
_TOKEN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[0-9]+|[^\W\d_A-Za-z]+")
_FEWEST_DAYS = 2


class DayColumn(NamedTuple):
    """Column of one day's hours: day 0 is Monday; ``part``: 'whole', or 'opens' or 'closes' beside another column."""

    day: int
    part: str


def plain(name: str) -> str:
    """Letters and digits of ``name`` in small letters, without accents: 'Code postal' is 'codepostal'."""
    return "".join(mark for mark in _folded(name).lower() if mark.isalnum())


def field_of(name: str) -> str | None:
    """Field, or part of one, that ``name`` stands for; None when it says nothing known."""
    return _FIELD_OF.get(plain(name))


def rank_of(name: str) -> int:
    """How plain a known name is; 0 is the field's own."""
    return _RANK[plain(name)]


def day_columns(names: Sequence[str]) -> dict[int, DayColumn]:
    """Position -> day, for the columns that name the days of the week; one day alone is none (a chance word)."""
    tokens = [[token.lower() for token in _TOKEN.findall(_folded(name))] for name in names]
    found = max((_days_in(tokens, language) for language in _LANGUAGES), key=lambda columns: len(_days(columns)))
    return found if len(_days(found)) >= _FEWEST_DAYS else {}


def _days(columns: Mapping[int, DayColumn]) -> set[int]:
    return {column.day for column in columns.values()}


def _days_in(tokens: Sequence[Sequence[str]], language: Mapping[str, int]) -> dict[int, DayColumn]:
    columns = ((position, _day_column(parts, language)) for position, parts in enumerate(tokens))
    return {position: column for position, column in columns if column is not None}


def _day_column(parts: Sequence[str], language: Mapping[str, int]) -> DayColumn | None:
    days = [language[part] for part in parts if part in language]
    others = {part for part in parts if part not in language and not part.isdecimal()}
    if len(days) != 1 or not others <= _WORDS_OF_HOURS | _OPENS | _CLOSES:
        return None
    whole = bool(others & {"hours", "times"}) or not others & (_OPENS | _CLOSES)
    return DayColumn(days[0], "whole" if whole else "closes" if others & _CLOSES else "opens")


def _folded(name: str) -> str:
    return "".join(mark for mark in unicodedata.normalize("NFKD", name) if not unicodedata.combining(mark))
