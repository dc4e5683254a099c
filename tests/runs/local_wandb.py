"""Imitation of W&B's server: it keeps the history of its runs, and answers as far as W&B asks."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "0123456789" * 4


class LocalWandb(ThreadingHTTPServer):
    """Serves one project; `history` has the rows of each run by their numbers.

    Args:
        status: of all answers; 401 refuses the key.
    """

    daemon_threads = True

    def __init__(self, status=200):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.history, self.summary = {}, {}
        self.files = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def rows_of(self, run_id):
        return [json.loads(row) for _, row in sorted(self.history[run_id].items())]

    def handle_error(self, *_):
        """W&B's process may close connections at its end."""


@contextmanager
def serve_wandb(status=200):
    server = LocalWandb(status)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: LocalWandb
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer({})

    def do_PUT(self):
        self._read()
        self._answer({})

    def do_POST(self):
        request = json.loads(self._read() or b"{}") if "otel" not in self.path else self._read()
        if self.path.endswith("/graphql"):
            action = getattr(self, f"_{request.get('operationName')}", None)
            self._answer({"data": action(request["variables"]) if action else {}})
        elif self.path.endswith("/file_stream"):
            rows = request.get("files", {}).get("wandb-history.jsonl", {"content": []})
            run_id = self.path.split("/")[-2]
            numbered = enumerate(rows["content"], rows.get("offset", 0))
            self.server.history.setdefault(run_id, {}).update(numbered)
            if summary := request.get("files", {}).get("wandb-summary.json"):
                self.server.summary[run_id] = json.loads(summary["content"][-1])
            self._answer({})
        else:
            self._answer({})

    def _RunResumeStatus(self, variables):  # noqa: N802
        bucket, history = None, self.server.history.get(variables["name"])
        if history is not None:
            bucket = {
                "id": "x",
                "name": variables["name"],
                "summaryMetrics": json.dumps(self.server.summary.get(variables["name"], {})),
                "displayName": "x",
                "logLineCount": 0,
                "historyLineCount": len(history),
                "eventsLineCount": 0,
                "historyTail": json.dumps([row for _, row in sorted(history.items())][-1:]),
                "eventsTail": "[]",
                "config": "{}",
                "tags": [],
                "wandbConfig": '{"t": 1}',
            }
        entity = {"id": "x", "name": "someone"}
        return {"model": {"id": "x", "name": "test", "entity": entity, "bucket": bucket}}

    def _UpsertBucket(self, variables):  # noqa: N802
        self.server.history.setdefault(variables["name"], {})
        project = {"id": "x", "name": "test", "entity": {"id": "x", "name": "someone"}}
        bucket = {"id": "x", "name": variables["name"], "displayName": "x", "project": project}
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _CreateRunFiles(self, variables):  # noqa: N802
        self.server.files += variables["files"]
        files = [{"name": name, "uploadUrl": self.server.url} for name in variables["files"]]
        return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": files}}

    def _read(self):
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def _answer(self, content):
        data = json.dumps(content).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
