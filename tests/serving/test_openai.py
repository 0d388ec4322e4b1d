"""OpenAI's own client asks, and gets captions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest

import rscap
from foreign import peft_adapter
from rscap.serving.models import ServedModels
from rscap.serving.running import open_models
from served import Live, asked, chat, png


@pytest.fixture
def client(live: Live) -> openai.OpenAI:
    """The official client."""
    return openai.OpenAI(base_url=f"{live.url}/v1", api_key="unused", max_retries=0)


def wanted(models: ServedModels, number: int, model: str = "nano", **decode: Any) -> str:
    """What the captioner says itself."""
    return models[model].captioner.caption(png(number), max_new_tokens=8, **decode).caption


def test_models_are_listed_and_found(client: openai.OpenAI, models: ServedModels) -> None:
    """Base and run, each under its name; another name is `NotFoundError`."""
    assert [model.id for model in client.models.list()] == ["tuned", "nano"]
    assert client.models.retrieve("tuned").id == "tuned"
    with pytest.raises(openai.NotFoundError, match="there is no model 'gpt-4o' here; there is tuned, nano"):
        client.chat.completions.create(**chat(model="gpt-4o"))
    assert models["tuned"].digest != models["nano"].digest


@pytest.mark.parametrize("model", ["nano", "tuned"])
def test_a_caption_is_that_of_the_captioner(client: openai.OpenAI, models: ServedModels, model: str) -> None:
    """Greedy, by beams and by draws; with what it was made with under one key of its own."""
    answer = client.chat.completions.create(**chat(3, model=model))
    assert answer.choices[0].message.content == wanted(models, 3, model)
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 8 < answer.usage.prompt_tokens
    own = answer.model_extra["rscap"]  # type: ignore[index]
    assert (own["run"], own["digest"], own["decode"]) == (model, models[model].digest, "greedy-8")
    assert own["base"]["dtype"] == "float32"
    assert own["choices"][0]["tokens"] == answer.usage.completion_tokens
    beams = client.chat.completions.create(**chat(3, model=model), extra_body={"rscap": {"beams": 3}})
    assert beams.choices[0].message.content == wanted(models, 3, model, beams=3)
    drawn = client.chat.completions.create(**chat(3, model=model, temperature=0.9, top_p=0.9, seed=5))
    assert drawn.choices[0].message.content == wanted(models, 3, model, temperature=0.9, top_p=0.9, seed=5)


def test_a_consensus_has_no_probabilities(client: openai.OpenAI, models: ServedModels) -> None:
    """It is chosen among captions: the one that the captioner chooses, with words and without how sure they are."""
    body = chat(2, logprobs=True, temperature=0.7)
    answer = client.chat.completions.create(**body, extra_body={"rscap": {"choose": "consensus", "samples": 4}})
    text = answer.choices[0].message.content
    assert text == wanted(models, 2, temperature=0.7, choose="consensus", samples=4)
    assert answer.choices[0].logprobs is None
    own = answer.model_extra["rscap"]["choices"][0]  # type: ignore[index]
    assert own["confidence"] is None
    assert " ".join(word["text"] for word in own["words"]) == text


def test_a_stream_tells_the_same(client: openai.OpenAI, models: ServedModels) -> None:
    """The parts joined are the caption; the numbers of tokens come last where they are asked for."""
    parts = list(client.chat.completions.create(**chat(1), stream=True, stream_options={"include_usage": True}))
    text = "".join(part.choices[0].delta.content or "" for part in parts if part.choices)
    assert text == wanted(models, 1)
    assert [part.choices[0].finish_reason for part in parts if part.choices][-1] in ("stop", "length")
    assert parts[-1].usage is not None
    assert not parts[-1].choices


def test_log_probabilities_come_by_token_and_word(client: openai.OpenAI) -> None:
    """Tokens joined are the caption, words too, and the words' probabilities are the tokens' products."""
    answer = client.chat.completions.create(**chat(2, logprobs=True))
    choice = answer.choices[0]
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert "".join(token.token for token in tokens).strip() == choice.message.content
    words = answer.model_extra["rscap"]["choices"][0]["words"]  # type: ignore[index]
    assert " ".join(word["text"] for word in words) == choice.message.content
    assert sum(word["logprob"] for word in words) == pytest.approx(
        sum(token.logprob for token in tokens if token.token), abs=1e-4
    )


def test_several_draws_of_one_image(client: openai.OpenAI, models: ServedModels) -> None:
    """`n` captions differ, the first is that of one draw, and asking again gives the same."""
    first, again = (client.chat.completions.create(**chat(4, temperature=1.5, seed=1, n=3)).choices for _ in range(2))
    texts = [choice.message.content for choice in first]
    assert len(set(texts)) == 3
    assert texts == [choice.message.content for choice in again]
    assert texts[0] == wanted(models, 4, temperature=1.5, seed=1)


def test_a_caption_ends_at_a_stop(client: openai.OpenAI, models: ServedModels) -> None:
    """The text before the stop, and `finish_reason` says so."""
    whole = wanted(models, 5)
    stop = whole.split()[2]
    choice = client.chat.completions.create(**chat(5, stop=[stop, "zzz"])).choices[0]
    assert choice.message.content == whole[: whole.index(stop)]
    assert choice.finish_reason == "stop"


def test_words_other_than_the_trained_are_used_and_flagged(client: openai.OpenAI, models: ServedModels) -> None:
    """No text, and the model's own prompt, are the trained prompt; others stand in its place, with a flag."""

    def flags(text: str | None) -> list[str]:
        own = client.chat.completions.create(**chat(text=text)).model_extra["rscap"]  # type: ignore[index]
        assert own["prompt"] == (text or "caption en")
        return [flag for flag in own["choices"][0]["flags"] if flag == "prompt_differs"]

    assert [flags(None), flags("caption en"), flags("describe the scene")] == [[], [], ["prompt_differs"]]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"frequency_penalty": 0.5}, "frequency_penalty cannot be set"),
    ({"top_logprobs": 3, "logprobs": True}, "top_logprobs cannot be set"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools cannot be set"),
    ({"response_format": {"type": "json_object"}}, "response_format cannot be set"),
    ({"n": 2}, "n above 1 needs a temperature"),
    ({"n": 99, "temperature": 1.0}, "n = 99"),
    ({"temperature": 2.5}, "temperature: "),
    ({"top_p": 0.5}, "top_p = 0.5 is for sampling"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "differ"),
    ({"extra_body": {"typical_p": 0.3}}, "unknown parameter 'typical_p'"),
    ({"extra_body": {"rscap": {"beam": 3}}}, "unknown parameter 'rscap.beam'"),
    ({"extra_body": {"rscap": {"beams": 3, "temperature": 0.5}}}, "beams = 3 searches"),
    ({"extra_body": {"rscap": {"beams": 64}}}, "beams = 64"),
    ({"extra_body": {"rscap": {"choose": "consensus", "samples": 200}}, "temperature": 0.5}, "samples = 200"),
    ({"extra_body": {"rscap": {"choose": "consensus"}}}, "set a temperature"),
]


@pytest.mark.parametrize(("more", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_what_cannot_be_done_is_refused_by_name(client: openai.OpenAI, more: dict[str, Any], said: str) -> None:
    """A parameter that would be ignored is an error that names it, with status 400."""
    body = chat(**{name: value for name, value in more.items() if name != "extra_body"})
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**body, extra_body=more.get("extra_body"))
    assert said in caught.value.message


def test_neutral_parameters_change_nothing(client: openai.OpenAI, models: ServedModels) -> None:
    """What clients send by habit, with values that mean nothing, is taken."""
    body = chat(frequency_penalty=0, presence_penalty=0, top_p=1, n=1, seed=3, temperature=0, user="me", tools=[])
    assert client.chat.completions.create(**body).choices[0].message.content == wanted(models, 0)


def test_a_model_is_asked_for_fewer_tokens_than_the_client_wishes(client: openai.OpenAI) -> None:
    """A limit of tokens above the server's is lowered, and the answer says so."""
    answer = client.chat.completions.create(**{**chat(), "max_tokens": 4_096})
    assert "max_tokens_lowered" in answer.model_extra["rscap"]["choices"][0]["flags"]  # type: ignore[index]


@pytest.mark.parametrize("together", [1, 6, pytest.param(33, marks=pytest.mark.slow)])
def test_captions_do_not_depend_on_what_is_asked_together(models: ServedModels, together: int) -> None:
    """Requests at once, to base and run in turn: each gets the caption that it gets alone."""
    names = ["nano", "tuned"]
    bodies = [chat(number, model=names[number % 2]) for number in range(together)]
    answers = asked(
        models, *(lambda client, body=body: client.post("/v1/chat/completions", json=body) for body in bodies)
    )
    texts = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
    assert texts == [wanted(models, number, names[number % 2]) for number in range(together)]


@pytest.mark.slow
def test_mixed_adapters_caption_as_each_does_alone(tuned: Path, tmp_path: Path) -> None:
    """A base, a run and an adapter of another program, asked in turn by 1 to 32 requests at once: over HTTP each image
    gets the caption that its model, loaded alone, makes of it."""
    folders = {"nano": "nano", "tuned": str(tuned), "plain": str(peft_adapter(tmp_path / "plain"))}
    alone = {}
    for name, folder in folders.items():
        with rscap.load(folder, device="cpu", dtype="float32") as captioner:
            alone[name] = [one.caption for one in captioner.caption([png(n) for n in range(32)], max_new_tokens=8)]
    assert len(set(map(tuple, alone.values()))) == len(alone), "two of them caption alike"
    names = list(folders)
    beside = {name: folders[name] for name in names[1:]}
    served = open_models("nano", beside, device="cpu", dtype="float32")
    for together in (1, 2, 3, 8, 16, 32):
        bodies = [chat(number, model=names[number % 3]) for number in range(together)]
        answers = asked(
            served, *(lambda client, body=body: client.post("/v1/chat/completions", json=body) for body in bodies)
        )
        texts = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
        assert texts == [alone[names[number % 3]][number] for number in range(together)]
    served.close()
