"""A run folder as training leaves it: drawn pictures, true captions that say more from checkpoint to checkpoint, real
questions read by the rule, and curves of a plausible course."""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caprl_core.qa.question import LETTERS, Question, question_id
from caprl_core.qa.rotation import EXTRA, order_text
from caprl_core.reward.draws import caption_numbers, draw_questions
from caprl_core.reward.reading import Reading, outcome_of
from caprl_core.reward.score import DrawRecord, Score
from caprl_core.training.rollouts import Rollout, rollout_rows, write_rollouts
from caprl_core.world.captions import FULL, THIN, Detail, random_caption
from caprl_core.world.drawing import draw_scene
from caprl_core.world.questions import scene_questions
from caprl_core.world.reading import strict_answer
from caprl_core.world.scene import Scene, scenes

ABSTAIN = "Cannot be answered from the description"
RECIPE = {
    "name": "colours",
    "policy": {"model": {"name": "tiny-captioner", "revision": "r7"}, "prompt": {"id": "describe-v1"}},
    "reward": {"draws": 4, "reader": {"model": {"name": "tiny-reader", "revision": "r3"}}},
    "grpo": {"groups": 8, "rollouts": 8, "max_tokens": 96, "kl": 0.02, "loss": "dapo"},
    "optimiser": {"learning_rate": 3e-4, "schedule": "cosine", "warmup_steps": 3},
    "steps": 60,
    "seed": 0,
}  # fmt: skip
ABOUT: dict[str, Any] = {
    "name": "colours",
    "fingerprint": "5f0c" * 16,
    "recipe": RECIPE,
    "questions": {"uri": "s3://sets/colours/train", "images": 2000, "questions": 21345, "sha256": "ab" * 32},
    "held_out": {"uri": "s3://sets/colours/held_out", "images": 100, "questions": 1032, "sha256": "cd" * 32},
    "policy": {"name": "tiny-captioner", "revision": "r7", "path": "/models/tiny-captioner"},
    "versions": {"torch": "2.9.1", "transformers": "5.19.0", "trl": "1.16.0"},
    "processes": 1,
}  # fmt: skip


def write_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    """JSON lines."""
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def write_training_run(
    folder: Path, *, steps: int = 60, every: int = 10, pictures: int = 4, captioned: int = 12, draws: int = 64
) -> None:
    """A run of `steps` steps, looked at every so many; `draws` questions a caption, none twice."""
    folder.mkdir(parents=True, exist_ok=True)
    write_lines(folder / "metrics.jsonl", [metric_line(step, steps) for step in range(1, steps + 1)])
    shown = {f"scene-{number:03d}": scene for number, scene in enumerate(scenes("held_out", captioned, seed=1))}
    (folder / "pictures").mkdir()
    watched = {key: f"picture-{number}.png" for number, key in enumerate(list(shown)[:pictures])}
    for key, name in watched.items():
        draw_scene(shown[key], seed=1).save(folder / "pictures" / name)
    about = {**ABOUT, "recipe": {**RECIPE, "steps": steps}, "watched": watched}
    (folder / "run.json").write_text(json.dumps(about), encoding="utf-8")
    evaluations, most = [], -1.0
    for step in sorted({*range(0, steps + 1, every), steps}):
        rollouts = evaluate(shown, step / steps, draws)
        line = evaluation_line(step, rollouts)
        evaluations.append(line | {"best": line["reward"] > most})
        most = max(most, line["reward"])
        write_evaluation(folder, step, rollouts, shown)
    write_lines(folder / "held_out.jsonl", evaluations)


def metric_line(step: int, steps: int) -> dict[str, Any]:
    """A line of `metrics.jsonl` of a run that learns, then levels off."""
    rng = random.Random(f"metrics/{step}")
    learnt = 1 - math.exp(-3.5 * step / steps)
    rollout, reader, update = 1.1 + 0.5 * learnt + rng.random() / 5, 0.5 + rng.random() / 8, 0.7 + rng.random() / 9
    rest = 0.05 + (0.9 if step % 10 == 0 else 0.0)
    return {
        "step": step,
        "loss": rng.gauss(0.01, 0.01),
        "reward": 0.17 + 0.42 * learnt + rng.gauss(0, 0.035),
        "reward_std": 0.22 - 0.05 * learnt + rng.gauss(0, 0.01),
        "kl": 0.09 * learnt**2 + abs(rng.gauss(0, 0.004)),
        "entropy": 1.1 - 0.75 * learnt + rng.gauss(0, 0.02),
        "learning_rate": 3e-4 * min(1, step / 3) * (1 + math.cos(math.pi * step / steps)) / 2,
        "grad_norm": 0.6 + rng.expovariate(3),
        "length_mean": 12 + 24 * learnt + rng.gauss(0, 0.7),
        "length_max": round(30 + 30 * learnt + rng.gauss(0, 4)),
        "truncated": max(0.0, rng.gauss(0.01, 0.01)),
        "accuracy": 0.17 + 0.42 * learnt,
        "abstained": 0.55 - 0.42 * learnt + rng.gauss(0, 0.02),
        "unread": max(0.0, rng.gauss(0.004, 0.004)),
        "failed": 0.0,
        "no_reward": 0.0,
        "repetitive": max(0.0, rng.gauss(0.0, 0.006)),
        "captions": 64,
        "draws": 256,
        "asked": 180,
        "rollout_s": rollout,
        "reader_s": reader,
        "update_s": update,
        "rest_s": rest,
        "step_s": rollout + reader + update + rest,
        "at": 1_790_000_000 + 3 * step,
    }


def evaluate(shown: dict[str, Scene], learnt: float, draws: int) -> list[Rollout]:
    """One caption a picture, the more complete the more was learnt, with what a reader makes of it."""
    reach = min(1.0, 1.15 * learnt)
    detail = Detail(*(low + (high - low) * reach for low, high in zip(_chances(THIN), _chances(FULL), strict=True)))
    found = []
    for key, scene in shown.items():
        caption = random_caption(scene, detail, random.Random(key), shuffle=False)
        found.append(rollout(key, caption, questions_of(key, scene), draws))
    return found


def questions_of(key: str, scene: Scene) -> list[Question]:
    """All of a scene's questions."""
    return [one.question for one in scene_questions(scene, random.Random(f"questions/{key}"))]


def rollout(key: str, caption: str, questions: Sequence[Question], draws: int = 64) -> Rollout:
    """A caption scored by a reader who takes it literally, and now and then guesses."""
    numbers = caption_numbers(0, 0, key, caption)
    drawn = draw_questions(questions, draws, numbers, replacement=False, shuffle=True, abstain=ABSTAIN)
    records = []
    for draw in drawn:
        question = questions[draw.question]
        rng = random.Random(f"{question.stem}/{key}")
        stated = strict_answer(caption, question)
        place = EXTRA if stated is None else question.options.index(stated)
        if rng.random() < 0.15:
            place = rng.randrange(len(question.options))
        letter = LETTERS[draw.order.index(place)]
        outcome = outcome_of(Reading(letter, abstained=False, reply=letter), question, draw.order)
        records.append(DrawRecord(question_id(key, question), order_text(draw.order), letter, outcome, letter))
    accuracy = sum(one.outcome == "right" for one in records) / len(records)
    return Rollout(key, caption, len(caption.split()), False, Score(key, 0, accuracy, accuracy, tuple(records)))


def evaluation_line(step: int, rollouts: Sequence[Rollout]) -> dict[str, Any]:
    """A line of `held_out.jsonl`, but for `best`."""
    draws = [draw.outcome for one in rollouts for draw in one.score.draws]
    reward = sum(one.score.reward or 0.0 for one in rollouts) / len(rollouts)
    return {
        "step": step,
        "reward": reward,
        "accuracy": reward,
        "abstained": draws.count("abstained") / len(draws),
        "unread": draws.count("unread") / len(draws),
        "length_mean": sum(one.tokens for one in rollouts) / len(rollouts),
        "truncated": 0.0,
        "captions": len(rollouts),
    }


def write_evaluation(folder: Path, step: int, rollouts: Sequence[Rollout], shown: dict[str, Scene]) -> Path:
    """The parquet file of an evaluation."""
    by_id = {key: {question_id(key, one): one for one in questions_of(key, scene)} for key, scene in shown.items()}
    path = folder / "held_out" / f"step-{step:06d}.parquet"
    write_rollouts(rollout_rows(step, rollouts, [0] * len(rollouts), by_id, abstain=ABSTAIN), path)
    return path


def _chances(detail: Detail) -> tuple[float, ...]:
    return detail.thing, detail.colour, detail.place, detail.count
