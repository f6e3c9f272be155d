"""The Python client of the server; imports no torch."""

from safelight.client.answers import Event, Job, JobFailed, Picture, Result, ServerProblem
from safelight.client.asynchronous import AsyncClient
from safelight.client.sync import Client

__all__ = ["AsyncClient", "Client", "Event", "Job", "JobFailed", "Picture", "Result", "ServerProblem"]
