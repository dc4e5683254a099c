"""Requests to web servers, over connections that are kept."""

from md2dist.storage.web.connections import forget_connections
from md2dist.storage.web.requests import is_address, open_web, parse_number

__all__ = ["forget_connections", "is_address", "open_web", "parse_number"]
