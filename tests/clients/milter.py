"""A milter on Sendmail's libmilter that does what the subject of a message says: python3 milter.py SOCKET TOLD

What it was told of a message becomes one line of JSON in the file TOLD. Needs the package python3-milter.
"""

import hashlib
import json
import sys

import Milter

SOCKET, TOLD = sys.argv[1:3]


class Filter(Milter.Base):
    def __init__(self):
        self.told = {}

    @Milter.noreply
    def connect(self, name, family, address):
        self.told = {"name": name, "address": address[0] if address else None, "j": self.getsymval("j")}
        return Milter.CONTINUE

    def hello(self, name):
        self.told["helo"] = name
        return Milter.CONTINUE

    def envfrom(self, sender, *parameters):
        self.told.update(sender=sender, recipients=[], fields=[], i=self.getsymval("i"))
        self.digest = hashlib.sha256()
        return Milter.CONTINUE

    def envrcpt(self, recipient, *parameters):
        self.told["recipients"].append(recipient)
        if recipient.startswith("<cleo@"):
            self.setreply("550", "5.1.1", "cleo wants no mail")
            return Milter.REJECT
        return Milter.CONTINUE

    def header(self, name, value):
        self.told["fields"].append([name, value])
        return Milter.CONTINUE

    def eoh(self):
        return Milter.CONTINUE

    def body(self, chunk):
        self.digest.update(chunk)
        return Milter.CONTINUE

    def eom(self):
        self.told["body"] = self.digest.hexdigest()
        self.told["login"] = self.getsymval("{auth_authen}")
        with open(TOLD, "a") as told:
            told.write(json.dumps(self.told) + "\n")
        wish = dict(self.told["fields"]).get("Subject", "").strip()
        if wish == "reject":
            return Milter.REJECT
        if wish == "reply":
            self.setreply("554", "5.7.9", "100%% unwanted")
            return Milter.REJECT
        if wish == "later":
            return Milter.TEMPFAIL
        if wish == "discard":
            return Milter.DISCARD
        if wish == "quarantine":
            self.quarantine("it looks odd")
        if wish == "add":
            self.addheader("X-Milter", "one\n\ttwo")
        if wish == "change":
            self.chgheader("Subject", 1, "changed")
            self.chgheader("X-Secret", 1, "")
            self.addheader("X-Milter", "changed it")
        return Milter.ACCEPT


Milter.factory = Filter
Milter.set_flags(Milter.ADDHDRS | Milter.CHGHDRS | Milter.QUARANTINE)
Milter.runmilter("test", "local:" + SOCKET, 240)
