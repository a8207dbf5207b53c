"""What the template of a library's processes imports ahead. By itself, so that it can begin before anything else."""

CATALOG_MODULES = ("imgsyncfs.catalog.worker", "imgsyncfs.catalog.catalog")
FETCH_MODULES = ("imgsyncfs.fetching.worker", "imgsyncfs.stores.opening")
