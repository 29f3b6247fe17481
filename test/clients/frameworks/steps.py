"""Runs steps and prints what each gave, a line of JSON for each: two runs are compared by these lines."""

import datetime
import decimal
import json
import traceback
import os


def plain(value):
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(each) for each in value)
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if hasattr(value, "__iter__"):
        return [plain(each) for each in value]
    return str(value)


class Steps:
    """`recover` brings the connection back after a step that failed."""

    def __init__(self, recover):
        self.recover = recover
        self.all = []

    def __call__(self, function):
        self.all.append(function)
        return function

    def run(self):
        only = os.environ.get("ONLY")
        for function in self.all:
            name = function.__name__
            if only and only not in name:
                continue
            try:
                line = {"step": name, "result": plain(function())}
            except Exception as error:
                cause = error
                while not getattr(cause, "sqlstate", None) and cause.__cause__ is not None:
                    cause = cause.__cause__
                while not getattr(cause, "sqlstate", None) and getattr(cause, "orig", None):
                    cause = cause.orig
                code = getattr(cause, "sqlstate", None)
                text = str(error).strip()
                line = {"step": name, "error": code or type(error).__name__, "message": text}
                frames = [
                    frame.line
                    for frame in traceback.extract_tb(error.__traceback__)
                    if frame.filename.endswith("work.py")
                ]
                line["call"] = frames[-1] if frames else None
                self.recover()
            print(json.dumps(line, sort_keys=True), flush=True)
