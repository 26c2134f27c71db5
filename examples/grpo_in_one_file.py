"""GRPO in one file: plain torch and transformers, a tiny model of random weights, and questions
whose answers a program checks.

    python examples/grpo_in_one_file.py      # a few seconds, to about 90 % right

Two digits are shown; the larger one is to be written, then END. A test holds `advantages`,
`logprobs` and `loss` to the library's own (`rl/advantages.py`, `engines/local/scoring.py`,
`rl/losses.py`), which compute a prompt once for its group; here every answer has a row of its own,
which is slower and easier to read. Left out on purpose: the KL term, several epochs a batch,
micro-batches, text.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

ASK, END, VOCABULARY = 10, 11, 12  # tokens 0 to 9 are the digits
P, G, T = 16, 16, 2  # questions a step, answers to each, tokens of an answer at most
STEPS, LEARNING_RATE, CLIP, TEMPERATURE = 100, 4e-3, 0.2, 1.0


def tiny_model() -> LlamaForCausalLM:
    shape = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    }
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=16, pad_token_id=END, **shape))


def questions(count: int) -> Tensor:
    """Prompts [P, L]: two digits and the token that asks."""
    return torch.cat([torch.randint(0, 10, (count, 2)), torch.full((count, 1), ASK)], 1)


def reward(prompt: list[int], answer: list[int]) -> float:
    """As the paper has it: malformed −2, well-formed and wrong 0, right 1 + 0.1. Well-formed is one
    digit, then END.
    """
    if answer[1:2] != [END] or answer[0] >= 10:
        return -2.0
    return 1.1 if answer[0] == max(prompt[:2]) else 0.0


@torch.no_grad()
def sample(model: LlamaForCausalLM, prompts_NL: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Answers [N, T], and a mask of the tokens up to the first END."""
    ids = prompts_NL
    for _ in range(T):
        logits_NV = model(input_ids=ids).logits[:, -1].float()
        drawn_N1 = (
            torch.multinomial((logits_NV / temperature).softmax(-1), 1)
            if temperature
            else logits_NV.argmax(-1, keepdim=True)
        )
        ids = torch.cat([ids, drawn_N1], 1)
    answers_NT = ids[:, prompts_NL.shape[1] :]
    ended_NT = (answers_NT == END).cumsum(1) - (answers_NT == END).long()  # an END stands before
    return answers_NT, (ended_NT == 0).long()


def advantages(rewards_PG: Tensor) -> Tensor:
    """(r − mean) / (std + 1e-4) within the group (arXiv 2402.03300): a group whose answers earn the
    same teaches nothing.
    """
    return (rewards_PG - rewards_PG.mean(1, keepdim=True)) / (rewards_PG.std(1, keepdim=True) + 1e-4)


def logprobs(model: LlamaForCausalLM, prompts_NL: Tensor, answers_NT: Tensor) -> Tensor:
    """Log-probabilities of the answers' tokens [N, T], temperature-scaled: the logits in front of
    each token say how likely it was.
    """
    logits = model(input_ids=torch.cat([prompts_NL, answers_NT], 1)).logits[:, prompts_NL.shape[1] - 1 : -1]
    return (logits.float() / TEMPERATURE).log_softmax(-1).gather(2, answers_NT[..., None])[..., 0]


def loss(logprobs_NT: Tensor, old_logprobs_NT: Tensor, advantages_N: Tensor, mask_NT: Tensor) -> Tensor:
    """The clipped policy loss, averaged over the batch's tokens (arXiv 2503.14476)."""
    ratio_NT = (logprobs_NT - old_logprobs_NT).exp()
    gain_NT = torch.minimum(
        ratio_NT * advantages_N[:, None], ratio_NT.clamp(1 - CLIP, 1 + CLIP) * advantages_N[:, None]
    )
    return -(gain_NT * mask_NT).sum() / mask_NT.sum()


def main(steps: int = STEPS) -> float:
    """Train, and return the share of all hundred questions that is answered right, greedily."""
    torch.manual_seed(0)
    model = tiny_model()
    adamw = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    for step in range(steps):
        prompts_NL = questions(P).repeat_interleave(G, 0)
        answers_NT, mask_NT = sample(model, prompts_NL, TEMPERATURE)
        earned = [
            reward(prompt, answer) for prompt, answer in zip(prompts_NL.tolist(), answers_NT.tolist(), strict=True)
        ]
        rewards_PG = torch.tensor(earned).view(P, G)
        new_NT = logprobs(model, prompts_NL, answers_NT)
        loss(new_NT, new_NT.detach(), advantages(rewards_PG).flatten(), mask_NT).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
        adamw.zero_grad()
        if step % 25 == 24:
            print(f"step {step + 1}: mean reward {rewards_PG.mean():+.2f}, right {(rewards_PG > 1).float().mean():.0%}")
    every_NL = torch.tensor([[first, second, ASK] for first in range(10) for second in range(10)])
    answers_NT, _ = sample(model, every_NL, 0.0)
    right = [reward(prompt, answer) > 1 for prompt, answer in zip(every_NL.tolist(), answers_NT.tolist(), strict=True)]
    return sum(right) / len(right)


if __name__ == "__main__":
    print(f"right, greedily, of all 100 questions: {main():.0%}")
