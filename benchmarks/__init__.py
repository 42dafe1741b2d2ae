"""Ours against its peers, side by side in one run. The only folder that may import them."""
