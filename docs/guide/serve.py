"""Serve the student of a run over HTTP: RUN=runs/first uvicorn serve:app --app-dir docs/guide."""

import os
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from distill import load

app = FastAPI(title="A distilled student")
predict = load(os.environ["RUN"])


class Texts(BaseModel):
    """The inputs of a request: texts, or a list of values for each where the student reads several columns."""

    texts: list[str | list[str]] = Field(min_length=1, max_length=256)


@app.get("/health")
def health() -> dict[str, Any]:
    """Return which file answers, and which columns it reads."""
    return {"file": str(predict.path), "columns": predict.columns}


@app.post("/predict")
def answer(request: Texts) -> list[dict[str, Any]]:
    """Return an answer for each text."""
    try:
        return predict(request.texts)
    except ValueError as error:
        raise HTTPException(422, str(error)) from error
