"""Tools of a release, run by make in an environment of their own (`.venv-tools`)."""
