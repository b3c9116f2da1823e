"""Parts that live outside mmdml, each in one file; a config imports the files whose parts it uses."""
