"""The sentences of a model card that hold for every model that `ehrmind` trains."""

from __future__ import annotations

RESTRICTED = (
    "Restricted: this model was trained on data that must not leave their machine, and it may repeat them. Do not "
    "pass it on; `ehrmind export push` refuses it."
)
UNKNOWN = "Nobody has written down what this model was trained on: treat it as restricted."
USE = """Research on clinical reasoning: computing what a calculator computes from a note, matching
patients and trials, predicting labels from coded histories, as far as the data above hold them.
A person who is responsible for the decision checks every answer.

Not for: decisions about patients, triage, or advice to patients; tasks, languages, hospitals or
forms of records that are not among the data above. It is no medical device, and no output of it is
medical advice."""
LIMITS = """- The figures are of held-out cases like those it was trained on; other places and years need a
  validation of their own.
- A right answer may rest on flawed reasoning, and fluent reasoning may end in a wrong answer.
- Probabilities of labels are the model's own and need not be calibrated.
- The model may repeat what it learned, including text of records."""
BY_PEOPLE = (
    "title, abstract and authors, with what is claimed",
    "clinical background, the care pathway, and why a language model",
    "objectives, and which question the figures answer",
    "who the patients are: setting, dates, eligibility, how missing values came about",
    "how the gold answers were made and by which people, their agreement and blinding",
    "what the base model had read before, and whether these data were among it",
    "ethical approval, consent, and the licences of the data",
    "involvement of patients and the public",
    "who uses it, what is shown to them, and what they do with an answer",
    "external validation, and how it is watched and updated in use",
    "limitations, biases and harms seen by those who know the setting",
    "funding, conflicts of interest, protocol, and where data and code can be had",
)
SERVING = """## Asking it

The directory is an ordinary `transformers` one; `ehrmind.json` says how the run asked. Either of

```
vllm serve DIR --served-model-name {name} --host 127.0.0.1
transformers serve DIR --host 127.0.0.1 --port 8000
```

serves it, and any OpenAI-style client asks it: one user turn that holds instruction, record and
question, at temperature 0.

```python
from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
reply = client.chat.completions.create(
    model="{name}",  # the name it is served under; for `transformers serve` DIR itself
    messages=[{{"role": "user", "content": prompt}}],
    temperature=0,
    max_tokens={limit},
)
print(reply.choices[0].message.content)  # <think>…</think> <answer>{{"answer": …}}</answer>
```

`ehrmind predict DIR CASES.parquet --endpoint http://127.0.0.1:8000/v1 --out FOLDER` writes the
prompts, reads the answers and checks the thinking against the record.
`examples/ask_a_served_model.py` asks one question by hand."""
