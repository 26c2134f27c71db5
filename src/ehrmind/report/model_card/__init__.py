"""The model card that every export gets. Works without torch."""
