"""Videos and streams: read frame by frame, and written so that browsers play them."""
