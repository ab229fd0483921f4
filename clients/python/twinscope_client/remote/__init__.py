"""The engine for a store on a server, with its connection, requests, uploads and errors."""
