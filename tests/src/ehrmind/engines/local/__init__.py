"""The local engine: a `transformers` model on one device, its sampler, its learner and their checkpoints."""
