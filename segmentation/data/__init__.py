"""Images with masks: folders, samples, batches and loaders."""
