"""The warm-up: supervised fine-tuning on worked answers, from calculators, cases or a teacher."""
