"""The store finder over HTTP, beside an endpoint that does nothing."""
