"""Answers that take long to find and follow from their question alone, kept in files for later processes.

What an answer depends on has to be part of its question: then it never changes, and whatever is wrong with a kept one is
mended by deleting the folder, which may be done at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def kept_answer(folder: Path, question: str, find: Callable[[], Any]) -> Any:
    """The answer to a question, found again only if it is not kept.

    Args:
        folder: where answers are kept; without permission to write there they are found again every time.
        question: everything that the answer depends on.
        find: finds the answer, something that JSON can express; an exception is passed on and not kept.

    Returns:
        The answer as JSON gives it back: lists for tuples.
    """
    file = folder / f"{hashlib.sha256(question.encode()).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        return json.loads(file.read_bytes())["answer"]
    text = json.dumps({"answer": find()}, allow_nan=False)
    # Without waiting for the disk: half a file, after a power cut, is no JSON and is written again.
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")
        part.write_text(text, encoding="ascii")
        part.replace(file)
    return json.loads(text)["answer"]
