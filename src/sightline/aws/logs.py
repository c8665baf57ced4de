"""The log of a training job in CloudWatch."""

import time
from collections.abc import Callable, Iterator
from typing import Any

GROUP = "/aws/sagemaker/TrainingJobs"
NUM_LAST_LOOKS = 2
"""Reads after the end of a job, because lines arrive late."""


class JobLog:
    """The lines of one job, host by host in streams, in the order of their time."""

    def __init__(self, client: Any, job: str) -> None:
        self.client, self.job = client, job
        self._tokens: dict[str, str] = {}

    def follow(self, is_over: Callable[[], bool], poll_seconds: float) -> Iterator[str]:
        """Every line, until the job is over and no more come."""
        looks = 0
        while looks <= NUM_LAST_LOOKS:
            was_over = is_over()
            lines = list(self.new_lines())
            yield from lines
            looks = looks + 1 if was_over and not lines else 0
            if looks <= NUM_LAST_LOOKS and not lines:
                time.sleep(min(poll_seconds, 2.0) if was_over else poll_seconds)

    def new_lines(self) -> Iterator[str]:
        """The lines since the last call; with several hosts, each begins with its host."""
        streams = self._streams()
        hosts = {stream: stream.rsplit("/", 1)[-1].rsplit("-", 1)[0] for stream in streams}
        events = [
            (event["timestamp"], number, event["message"], hosts[stream])
            for stream in streams
            for number, event in enumerate(self._events(stream))
        ]
        several = len(set(hosts.values())) > 1
        for _, _, message, host in sorted(events, key=lambda event: event[:2]):
            for line in message.splitlines():
                yield f"[{host}] {line}" if several else line

    def _streams(self) -> list[str]:
        from botocore.exceptions import ClientError

        try:
            pages = self.client.get_paginator("describe_log_streams").paginate(
                logGroupName=GROUP, logStreamNamePrefix=f"{self.job}/"
            )
            return sorted(stream["logStreamName"] for page in pages for stream in page["logStreams"])
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":  # nothing was ever written
                return []
            raise

    def _events(self, stream: str) -> Iterator[dict[str, Any]]:
        while True:
            token = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
            page = self.client.get_log_events(logGroupName=GROUP, logStreamName=stream, startFromHead=True, **token)
            yield from page["events"]
            before, self._tokens[stream] = self._tokens.get(stream), page["nextForwardToken"]
            if before == page["nextForwardToken"] or not page["events"]:
                return
