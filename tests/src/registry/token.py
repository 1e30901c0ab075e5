# Hands out tokens as the distribution project's token authentication wants them: a JWT, signed, with the certificate.
import base64, http.server, json, ssl, subprocess, sys, time, urllib.parse

user, password = sys.argv[1:3]
folder = "/run/registry/"


def text(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


pem = open(folder + "cert.pem").read().split("-----")[2]
header = text(json.dumps({"typ": "JWT", "alg": "RS256", "x5c": ["".join(pem.split())]}).encode())


class Tokens(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
        if self.headers.get("Authorization") != known:
            self.send_response(401)
            self.end_headers()
            return
        access = []
        for scope in query.get("scope", []):
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": [a for a in actions.split(",") if a == "pull"]})
        now = int(time.time())
        claims = {"iss": "weft-test", "sub": user, "aud": query["service"][0], "exp": now + 60, "nbf": now - 10,
                  "iat": now, "jti": str(now), "access": access}
        signed = header + "." + text(json.dumps(claims).encode())
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", folder + "key.pem"],
                                   input=signed.encode(), capture_output=True, check=True).stdout
        body = json.dumps({"token": signed + "." + text(signature)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = http.server.ThreadingHTTPServer(("localhost", 5001), Tokens)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "cert.pem", folder + "key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
