"""The engine for a store on a server: channel, requests, uploads, errors."""
