"""What every graph for export is, and the graphs of networks that are not EfficientDet or a segmenter."""
