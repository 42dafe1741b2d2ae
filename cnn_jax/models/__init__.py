"""Networks, one family a file. Each is called as `model(images, train)`; the sizes are partials of one module."""
