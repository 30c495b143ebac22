#!/usr/bin/python3
"""A worker that maitred starts: a service at the port in PORT, which does with each request what its body says.

service_program.py LEDGER [WORD...]: as worker_program.py, and these words: "late" (listens once there is a file "open" beside the
ledger), "blind" (closes the connection after each answer), "single" (one connection at a time, and hardly one waits). A message may say
"status", and "then": "deaf" (it closes its port, and lives on). GET /health is 503 while there is a file
"sick" beside the ledger.
"""
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer

import worker_deeds
from worker_deeds import note


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0" if "blind" in sys.argv else "HTTP/1.1"

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(503 if os.path.exists(worker_deeds.beside_ledger("sick")) else 200)

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        note("begin", message["id"], self.headers["Maitred-Attempt"], self.headers["Maitred-Redelivered"], self.path)
        worker_deeds.work(message)
        if message.get("status", 200) < 300:
            note("end", message["id"])
        self.answer(message.get("status", 200), b"done %d" % message["id"])
        if message.get("then") == "deaf":
            self.server.shutdown()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


class Single(HTTPServer):
    request_queue_size = 1


def main():
    worker_deeds.begin()
    if "late" in sys.argv:
        worker_deeds.await_file(worker_deeds.beside_ledger("open"))
    server = (Single if "single" in sys.argv else Server)((os.environ["HOST"], int(os.environ["PORT"])), Handler)
    note("listens")
    server.serve_forever()
    server.server_close()
    worker_deeds.hang()


main()
