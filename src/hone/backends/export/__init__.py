"""What a published model is handed on to besides the store. Each client library is an extra, imported only here."""
