"""A server as an engine: channel, requests, uploads, errors."""
