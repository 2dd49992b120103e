"""A page that says which interpreter made it."""

import platform

from flask import Flask
from waitress import serve

app = Flask(__name__)


@app.get("/")
def index():
    return {"greeting": "from a microVM", "python": platform.python_version()}


serve(app, host="0.0.0.0", port=8000)
