"""Convolutions with holes, as a training on a processor takes them."""
