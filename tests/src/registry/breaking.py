# A wire to the registry that ends (or falls silent) in the middle of each blob's first answer.
import http.client, http.server, sys, threading, time

stall = sys.argv[1] == "stall"
seen, lock = set(), threading.Lock()


class Wire(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with lock:
            first = "/blobs/" in self.path and self.path not in seen
            seen.add(self.path)
            with open("/run/asked", "a") as asked:
                asked.write(f"{self.path} {self.headers.get('Range', '-')}\n")
        registry = http.client.HTTPConnection("localhost", 5000)
        kept = {k: v for k, v in self.headers.items() if k.lower() in ("accept", "range", "authorization")}
        registry.request("GET", self.path, headers=kept)
        answer = registry.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for key, value in answer.getheaders():
            if key.lower() not in ("date", "server", "connection"):
                self.send_header(key, value)
        self.end_headers()
        if first and len(body) > 100000:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if stall:
                time.sleep(300)
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(body)


http.server.ThreadingHTTPServer(("localhost", 5002), Wire).serve_forever()
