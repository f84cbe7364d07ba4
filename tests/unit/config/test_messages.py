"""From pydantic's problems to lines that name the keys of the file, and nothing of how the types are written down."""

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.config.messages import explain, key_path


class Round(BaseModel):
    model_config = ConfigDict(extra="forbid")
    shape: Literal["round"]
    radius: int


class Square(BaseModel):
    model_config = ConfigDict(extra="forbid")
    shape: Literal["square"]
    side: int


class Box(BaseModel):
    model_config = ConfigDict(extra="forbid")
    lid: Annotated[Round | Square, Field(discriminator="shape")] | None = None
    parts: dict[str, list[str | Square]] = {}
    turns: dict[Annotated[int, Field(ge=0)], Literal["left", "right"]] = {}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"lid": {"shape": "round", "radus": 1, "radius": 1}},
            "lid.radus: unknown key 'radus'; did you mean 'radius'?",
        ),
        ({"lid": {"shape": "rond"}}, "lid.shape: unknown value 'rond'; did you mean 'round'?"),
        ({"lid": {"side": 1}}, "lid.shape: is required"),
        ({"lid": {"shape": "square"}}, "lid.side: is required"),
        (
            {"parts": {"Round": [{"shape": "square", "side": "x"}]}},
            "parts.Round[0].side: input should be a valid integer",
        ),
        ({"parts": {"str": [{"shape": "square", "sid": 1, "side": 1}]}}, "parts.str[0].sid: unknown key 'sid'"),
        ({"turns": {3: "lft"}}, "turns[3]: unknown value 'lft'; did you mean 'left'?"),
        ({"turns": {-1: "left"}}, "turns[-1]: input should be greater than or equal to 0"),
        ({"lids": 1}, "lids: unknown key 'lids'; did you mean 'lid'?"),
    ],
)
def test_a_problem_names_the_keys_of_the_file(content, expected):
    with pytest.raises(ValidationError) as caught:
        Box.model_validate(content)
    (line,) = explain(caught.value, Box, "box.yaml").splitlines()
    assert line.startswith(f"box.yaml: {expected}")


def test_keys_are_written_as_one_types_them():
    assert key_path(("experiments", 0, "seeds", 1)) == "experiments[0].seeds[1]"
    assert key_path(()) == "(top level)"
