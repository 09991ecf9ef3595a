"""The page in the browser and the HTTP interface behind it."""
