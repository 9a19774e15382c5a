"""Runs docs/examples/celery_task.py with a worker in this process, and delivers one task twice: prints the results."""

from __future__ import annotations

import json

from celery.contrib.testing.worker import start_worker
from celery_task import app, send_code

app.conf.result_backend = "cache+memory://"
app.conf.broker_connection_retry_on_startup = True

if __name__ == "__main__":
    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR"):
        arguments = ("13800138000", "【Acme】Your code is 4711.")
        results = []
        for _ in range(2):
            delivered = send_code.apply_async(arguments, task_id="login-7f3a")
            results.append(delivered.get(timeout=120))
            delivered.forget()
        print(json.dumps(results))
