"""Prediction: a trained model answers cases without a known answer."""
