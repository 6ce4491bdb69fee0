"""A SCRAM-SHA-256 client (RFC 5802, RFC 7677) for libraries that have none."""

import base64
import hashlib
import hmac
import os


class Scram:
    def __init__(self, user, password):
        self.user, self.password = user, password
        self.nonce = base64.b64encode(os.urandom(18)).decode()
        self.steps = iter([self.first, self.final, self.verify])
        self.verified = False

    def __call__(self, challenge=None):
        """The response to a challenge, as smtplib and imaplib ask for it."""
        return next(self.steps)((challenge or b"").decode())

    def first(self, _challenge):
        self.first_bare = f"n={self.user},r={self.nonce}"
        return "n,," + self.first_bare

    def final(self, challenge):
        said = dict(part.split("=", 1) for part in challenge.split(","))
        assert said["r"].startswith(self.nonce) and len(said["r"]) > len(self.nonce), challenge
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(said["s"]), int(said["i"]))
        digest = lambda key, text: hmac.new(key, text, "sha256").digest()
        client_key = digest(salted, b"Client Key")
        without_proof = "c=biws,r=" + said["r"]
        message = ",".join([self.first_bare, challenge, without_proof]).encode()
        signature = digest(hashlib.sha256(client_key).digest(), message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.server_signature = digest(digest(salted, b"Server Key"), message)
        return without_proof + ",p=" + base64.b64encode(proof).decode()

    def verify(self, challenge):
        assert challenge == "v=" + base64.b64encode(self.server_signature).decode(), challenge
        self.verified = True
        return ""
