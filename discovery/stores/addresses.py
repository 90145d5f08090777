"""One line of address from its parts."""

# Where the number stands before the street: by the address formats of the Universal Postal Union.
_NUMBER_FIRST = "US CA GB IE IM JE GG AU NZ ZA FR MC LU MA TN DZ IN SG MY PH TH HK IL EG AE KE NG GH PR GU"


def street_address(street: str, number: str, country: str) -> str:
    """Street and house number in the order of ``country`` (ISO 3166-1 alpha-2; any other: street first)."""
    parts = (number, street) if country.strip().upper() in _NUMBER_FIRST.split() else (street, number)
    return " ".join(part for part in parts if part)
