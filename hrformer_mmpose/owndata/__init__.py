"""Data sets of one's own: annotations of any tool, metainfo, split and config from them."""
