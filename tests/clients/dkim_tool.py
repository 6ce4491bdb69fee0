"""Signs, seals and checks messages with dkimpy: an independent reading of RFC 6376, RFC 8463 and RFC 8617.

    dkim_tool.py keys FOLDER                               makes keys, prints their records: "rsa v=DKIM1; ..."
    dkim_tool.py sign FOLDER rsa|ed25519 DOMAIN [OPTION..] prints the message from standard input, signed; OPTION is
                                                           simple, sha1 or length
    dkim_tool.py seal FOLDER DOMAIN SERVICE                prints it with one more ARC set
    dkim_tool.py check ZONE                                prints what the signatures and the chain are worth; ZONE has
                                                           lines of "NAME TXT DATA"

The selector is the algorithm.
"""

import base64
import re
import subprocess
import sys

import dkim


def read(path):
    with open(path, "rb") as file:
        return file.read()


def openssl(*args):
    return subprocess.run(["openssl", *args], check=True, capture_output=True).stdout


def keys(folder):
    openssl("genrsa", "-traditional", "-out", f"{folder}/rsa.key", "2048")
    public = openssl("pkey", "-in", f"{folder}/rsa.key", "-pubout", "-outform", "DER")
    print("rsa v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode())
    private = openssl("genpkey", "-algorithm", "ed25519", "-outform", "DER")
    with open(f"{folder}/ed25519.der", "wb") as file:
        file.write(private)
    with open(f"{folder}/ed25519.key", "wb") as file:
        file.write(base64.b64encode(private[-32:]))
    public = openssl("pkey", "-inform", "DER", "-in", f"{folder}/ed25519.der", "-pubout", "-outform", "DER")
    print("ed25519 v=DKIM1; k=ed25519; p=" + base64.b64encode(public[-32:]).decode())


def sign(message, folder, algorithm, domain, *options):
    kind = b"simple" if "simple" in options else b"relaxed"
    hashed = b"sha1" if "sha1" in options else b"sha256"
    field = dkim.DKIM(message, signature_algorithm=algorithm.encode() + b"-" + hashed).sign(
        algorithm.encode(),
        domain.encode(),
        read(f"{folder}/{algorithm}.key"),
        canonicalize=(kind, kind),
        include_headers=[b"from", b"from", b"to", b"subject"],
        length="length" in options,
    )
    return field + message


def seal(message, folder, domain, service):
    fields = dkim.arc_sign(message, b"rsa", domain.encode(), read(f"{folder}/rsa.key"), service.encode())
    return b"".join(fields) + message


def check(message, zone):
    records = {}
    with open(zone, encoding="utf-8") as file:
        for line in file:
            name, _, data = line.strip().split(" ", 2)
            records[name] = data.encode()

    def find(name, timeout=5):
        return records.get(name.decode().rstrip(".").lower())

    for place in range(len(re.findall(rb"(?im)^dkim-signature:", message))):
        print("dkim", "pass" if dkim.DKIM(message).verify(place, dnsfunc=find) else "fail")
    result, _, why = dkim.arc_verify(message, dnsfunc=find)
    print("arc", result.decode() if result else "none", why)


def main():
    command, *args = sys.argv[1:]
    if command == "keys":
        return keys(*args)
    message = sys.stdin.buffer.read()
    if command == "check":
        return check(message, *args)
    sys.stdout.buffer.write({"sign": sign, "seal": seal}[command](message, *args))


main()
