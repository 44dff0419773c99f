"""One self-contained HTML page out of results: `gather` what the files say, `charts` draw it, `page` writes it."""
