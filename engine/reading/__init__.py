"""Image files: pictures and rasters as pixels, and the folders that hold them."""
