"""Input: random-access sources, and the streams that read, scale and crop them."""
