"""Reading files wherever they lie: local folders, `s3://` and `https://`, whole, in ranges or as streams."""
