"""Frozen timm backbones, their feature maps, and the cache of the maps."""
