"""Documents: texts that hold keys and values, read into the bytes to store, with the place of every
mistake. One file a format; `load` and the sources that are files share them."""
