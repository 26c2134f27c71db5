"""The pilot: what the model can do before training, why it fails, and the plan that follows."""
