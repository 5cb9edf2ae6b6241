"""The console as people meet it: in a real browser, against the whole running stack."""
