"""Images with boxes: annotation files, samples, batches and loaders."""
