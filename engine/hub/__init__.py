"""Networks in folders that can be shared, and repositories of a model hub that hold such a folder."""
