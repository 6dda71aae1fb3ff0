"""Which addresses reach this machine alone."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether an address reaches this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
