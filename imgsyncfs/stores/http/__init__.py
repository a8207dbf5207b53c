"""GETs over libcurl."""
