"""DeepLabv3+ and other decoders on EfficientNet: family, heads and losses."""
