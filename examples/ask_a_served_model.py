"""Ask a served model about a case with an ordinary OpenAI-style client. Serve what a run has
trained, and ask it:

    ehrmind export model runs/demo --out demo-model
    transformers serve demo-model --host 127.0.0.1 --port 8000
    # or: vllm serve demo-model --host 127.0.0.1
    ehrmind data new medcalc notes.csv --out new.parquet
    python examples/ask_a_served_model.py demo-model new.parquet --url http://127.0.0.1:8000/v1

`ehrmind predict demo-model new.parquet --endpoint URL --out FOLDER` does this for many cases,
resumable, with provenance. Records would leave this machine with the question, so an address
elsewhere is refused here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from openai import OpenAI

from ehrmind.config import Endpoint
from ehrmind.data import load_cases
from ehrmind.engines.served import harmless_of
from ehrmind.predict.predict import settings_of
from ehrmind.prompts import messages
from ehrmind.prompts.records import with_histories
from ehrmind.stages.models import choose
from ehrmind.verify.judge import read


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a served model about the first case of a file.")
    parser.add_argument("model", help="the directory that is served; its ehrmind.json says how to ask")
    parser.add_argument("cases", type=Path, help="a Cases file")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--name", help="what the model is served as, if not its directory")
    given = parser.parse_args()
    if not Endpoint(url=given.url, model=given.model).is_loopback:
        raise SystemExit("That address is another machine's; see docs/teacher.md before a record goes there.")

    how = settings_of(choose(Path(given.model)).asks, {})
    (case,), _ = with_histories(load_cases(given.cases)[:1], how.prompts.history)
    (turn,) = messages(case, how.prompts.think)  # one user turn: instruction, record, question
    turn = harmless_of(Path(given.model))(turn)  # no record ends its turn in this model's own tokens
    client = OpenAI(base_url=given.url, api_key="none", timeout=300.0)
    reply = client.chat.completions.create(
        model=given.name or given.model,
        messages=[{"role": turn.role, "content": turn.content}],  # type: ignore[list-item,misc]
        temperature=0.0,
        max_tokens=how.decoding.max_new_tokens,
    )
    text = reply.choices[0].message.content or ""
    answer, reason = read(case, text, think=how.prompts.think)
    print(text)
    print(f"\n{case.id}: {answer}" if reason is None else f"\n{case.id}: no answer ({reason})")


if __name__ == "__main__":
    main()
