"""What the commands that speak to a service have in common: where it is, the key, and the brand's path."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from api.operator_client import OperatorClient

HERE = "http://127.0.0.1:8000"
REFUSED = 2
FAILED = 1

Url = Annotated[str, typer.Option("--url", help="Where the service is.")]
AdminKey = Annotated[str, typer.Option("--admin-key", help="Operator key; else NEARHIVE_ADMIN_KEY, else DATA_DIR's.")]
BrandName = Annotated[str, typer.Argument(metavar="BRAND", help="The brand's id.")]


def client_of(url: str, admin_key: str) -> "OperatorClient":
    """Client with the operator key. Raises Failed without one."""
    from api.operator_client import OperatorClient, operator_key

    return OperatorClient(url, operator_key(admin_key))


def brand_path(brand: str) -> str:
    """Path of a brand, whatever its id."""
    from urllib.parse import quote

    return f"/v1/brands/{quote(brand, safe='')}"
