"""Frozen timm backbones and the feature maps they give."""
